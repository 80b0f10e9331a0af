/* Lines of a batch: name of a chat template (empty: the model's own), NUL, /source of the model,
 * NUL, lines. The model has 300 tokens. */
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "fuzz/fuzz_chat_tokenizer.h"
#include "tool/batch_request.h"
#include "tool/input.h"
#include "tool/result.h"

static void check_request(const ps_job *job, ps_request *request, json_t *id)
{
    if (fuzz_is_ok(ps_generate_check(request, &job->ckpt.spec, &job->limits))) {
        ps_text line = {0};
        ps_completion *none = ps_mem_new((size_t)request->n_samples, sizeof *none);
        ps_result_to_json(id, job, request, none, request->n_samples, &line);
        ps_mem_free(none);
        ps_text_release(&line);
    }
    ps_request_release(request);
}

static void read_lines(ps_batch_context *batch, const ps_text *text)
{
    const char *line;
    size_t at = 0, n;
    for (int number = 1; ps_input_next_line(text, &at, &line, &n); number++) {
        ps_request request;
        json_t *id;
        ps_text result = {0};
        const ps_err err = ps_batch_request_parse(batch, line, n, 7, &id, &request);
        if (fuzz_is_ok(err)) {
            check_request(batch->job, &request, id);
        } else {
            ps_result_error_to_json(id, number, err, ps_err_message(), &result);
        }
        ps_text_release(&result);
        json_decref(id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ps_job job;
    fuzz_input rest = {(const char *)data, size};
    ps_text lines = {0};
    if (!job.tokenizer) {
        job.tokenizer = fuzz_chat_tokenizer();
        job.ckpt.spec = ps_spec_plain();
        job.ckpt.spec.vocab_size = 300;
        job.ckpt.spec.bos_id = 1;
        job.ckpt.spec.n_eos = 1;
        job.ckpt.spec.eos_ids[0] = 2;
        job.ckpt.path = ps_mem_copy_text("model.h5");
        job.limits = (ps_limits){.rows_max = 8, .chunk_rows = 8, .n_slots = 2, .context = 4096};
    }
    char *name = fuzz_take_text(&rest), *source = fuzz_take_text(&rest);
    ps_text_append_str(&job.ckpt.source, source);
    ps_text_append(&lines, rest.data, rest.n);
    ps_batch_context batch = {.job = &job, .chat_template = name[0] ? name : NULL};
    read_lines(&batch, &lines);
    ps_chat_free(batch.chat);
    ps_text_release(&lines);
    ps_text_release(&job.ckpt.source);
    ps_mem_free(source);
    ps_mem_free(name);
    return 0;
}

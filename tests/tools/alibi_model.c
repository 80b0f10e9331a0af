/* A model file's weights under another attention: ALiBi in every layer, no rotation, no window.
 *
 *   alibi_model FROM.h5 TO.h5 */
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/ckpt.h"

static ps_err copy_tensor(const ps_ckpt *from, int fd, const ps_ckpt_tensor *t, ps_ckpt_writer *to)
{
    char *bytes = ps_mem_new(t->bytes, 1);
    ps_err err = ps_file_read_at(fd, from->path, t->offset, bytes, t->bytes);
    if (!err) err = ps_ckpt_begin(to, &t->need, t->dtype);
    if (!err) err = ps_ckpt_append(to, bytes, t->bytes);
    if (!err) err = ps_ckpt_end(to);
    ps_mem_free(bytes);
    return err;
}

static ps_err convert(const char *from_path, const char *to_path)
{
    ps_ckpt from;
    ps_file_map map;
    ps_ckpt_writer *to;
    PS_TRY(ps_ckpt_open(from_path, &from));
    PS_TRY(ps_file_map_open(from_path, &map));
    from.spec.n_ropes = 0;
    for (int l = 0; l < from.spec.n_layers; l++) {
        ps_layer_spec *layer = &from.spec.layers[l];
        *layer = (ps_layer_spec){.rope = -1, .n_biases = 1};
        layer->biases[0] =
            (ps_bias_spec){.kind = PS_BIAS_ALIBI, .max_exponent = 8.0, .factor = 1.0};
    }
    PS_TRY(ps_ckpt_create(to_path, &from.spec, &to));
    ps_err err = PS_OK;
    for (int i = 0; i < from.n_tensors && !err; i++) {
        err = copy_tensor(&from, map.fd, &from.tensors[i], to);
    }
    if (!err) err = ps_ckpt_put_tokenizer(to, from.tokenizer.data, from.tokenizer.len);
    if (!err) err = ps_ckpt_put_source(to, from.source.data, from.source.len);
    if (!err) {
        err = ps_ckpt_commit(to);
    } else {
        ps_ckpt_abandon(to);
    }
    ps_file_map_close(&map);
    ps_ckpt_close(&from);
    return err;
}

int main(int argc, char **argv)
{
    const ps_err err =
        argc != 3 ? PS_FAIL(PS_ERR_USAGE, "wanted FROM.h5 and TO.h5") : convert(argv[1], argv[2]);
    if (err) fprintf(stderr, "alibi_model: %s\n", ps_err_message());
    return ps_err_exit_status(err);
}

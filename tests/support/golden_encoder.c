#include "support/golden_encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/ckpt.h"
#include "tool/import/convert.h"

enum { REPORT_BYTES_MAX = 1 << 20 };

/* What `encode` writes for the group. */
static void check_command(golden *g, const char *name, ps_h5_file *expected, const char *group,
                          int window)
{
    char arguments[512], error[1024], path[160], wanted[160];
    ps_h5_file *out = NULL;
    snprintf(path, sizeof path, "/%s/ids", group);
    snprintf(wanted, sizeof wanted, "/%s/mask", group);
    const bool masked = ps_h5_exists(expected, wanted);
    const bool written = golden_write_ids(g, "tokens.txt", false, expected, path) &&
                         (!masked || golden_write_ids(g, "mask.txt", false, expected, wanted));
    int used = snprintf(arguments, sizeof arguments,
                        "encode %s/model.h5 --tokens %s/tokens.txt --out %s/out.h5 -q", g->scratch,
                        g->scratch, g->scratch);
    if (masked)
        used += snprintf(arguments + used, sizeof arguments - (size_t)used, " --mask %s/mask.txt",
                         g->scratch);
    if (window > 0)
        snprintf(arguments + used, sizeof arguments - (size_t)used, " --stream %d --chunk 7",
                 window);
    if (!written || golden_run(g, true, arguments, "encode") != 0) {
        golden_read_text(g, "encode.err", error, sizeof error);
        golden_verdict(g, name, "encode", false, error);
        return;
    }
    snprintf(path, sizeof path, "%s/out.h5", g->scratch);
    if (ps_h5_open(path, &out)) out = NULL;
    snprintf(wanted, sizeof wanted, "/%s/hidden/after_norm", group);
    golden_row(g, name, "encode hidden",
               golden_compare(out, "/0/hidden", expected, wanted, GOLDEN_ABSOLUTE), 2e-5);
    snprintf(wanted, sizeof wanted, "/%s/hidden/lyric_proj", group);
    golden_row(g, name, "encode output",
               golden_compare(out, "/0/output", expected, wanted, GOLDEN_ABSOLUTE), 2e-5);
    ps_h5_close(out);
}

/* Rows of one rank's file; returns their number. */
static int read_rows(golden *g, const char *name, int rank)
{
    char text[8192], file[32];
    snprintf(file, sizeof file, "parts.%d", rank);
    golden_read_text(g, file, text, sizeof text);
    int n = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++) {
        char what[64];
        double error, tolerance;
        if (sscanf(line, "%63s %lf %lf", what, &error, &tolerance) != 3)
            golden_verdict(g, name, "a line", false, line);
        else
            golden_row(g, name, what, error, tolerance);
    }
    return n;
}

static void check_parts(golden *g, const char *directory, const char *name, const char *group,
                        int window, int n_layers)
{
    // The tool lies in the build directory, beside the program.
    const char *slash = strrchr(g->program, '/');
    char tool[4096], arguments[9000], error[1024];
    snprintf(tool, sizeof tool, "%.*s/tests/tools/encoder_parts",
             slash ? (int)(slash - g->program) : 1, slash ? g->program : ".");
    snprintf(arguments, sizeof arguments, "%s/model.h5 %s/expected.h5 %s %d %s/parts", g->scratch,
             directory, group, window, g->scratch);
    golden other = *g;
    other.program = tool;
    if (golden_run(&other, true, arguments, "parts") != 0) {
        golden_read_text(g, "parts.err", error, sizeof error);
        golden_verdict(g, name, "parts", false, error);
        return;
    }
    int n = 0;
    for (int rank = 0; rank < atoi(g->ranks); rank++) {
        n += read_rows(g, name, rank);
    }
    golden_verdict(g, name, "all layers", n == 3 + 4 * n_layers, "some were compared by no rank");
}

static void check_group(golden *g, const char *directory, const char *name, ps_h5_file *expected,
                        const char *group, int n_layers)
{
    char row[256], object[128];
    int64_t window = 0;
    snprintf(object, sizeof object, "/%s", group);
    snprintf(row, sizeof row, "%s/%s", name, group);
    if (!ps_h5_exists(expected, object)) {
        golden_verdict(g, row, "reference", false, "is not in expected.h5");
        return;
    }
    if (ps_h5_has_attribute(expected, object, "window") &&
        ps_h5_attribute_int(expected, object, "window", &window))
        window = -1;
    check_command(g, row, expected, group, (int)window);
    check_parts(g, directory, row, group, (int)window, n_layers);
}

static int count_layers(const char *path)
{
    ps_ckpt ckpt;
    if (ps_ckpt_open(path, &ckpt)) return -1;
    const int n = ckpt.spec.n_layers;
    ps_ckpt_close(&ckpt);
    return n;
}

static void check_all(golden *g, const char *directory, const char *name, const json_t *groups)
{
    char path[4200];
    ps_h5_file *expected;
    snprintf(path, sizeof path, "%s/model.h5", g->scratch);
    if (ps_convert_directory(directory, path, NULL)) {
        golden_verdict(g, name, "convert", false, ps_err_message());
        return;
    }
    const int n_layers = count_layers(path);
    snprintf(path, sizeof path, "%s/expected.h5", directory);
    if (ps_h5_open(path, &expected)) {
        golden_verdict(g, name, "expected.h5", false, ps_err_message());
        return;
    }
    const char *group;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)groups, group, value)
    {
        check_group(g, directory, name, expected, group, n_layers);
    }
    ps_h5_close(expected);
}

bool golden_check_encoder(golden *g, const char *directory, const char *name)
{
    char path[4200];
    json_t *groups;
    if (!golden_exists(directory, "config.json") || !golden_exists(directory, "expected.h5") ||
        !golden_exists(directory, "report.json") || !golden_has_suffix(directory, ".safetensors"))
        return false;
    snprintf(path, sizeof path, "%s/report.json", directory);
    if (ps_json_load(path, REPORT_BYTES_MAX, &groups)) {
        golden_verdict(g, name, "report.json", false, ps_err_message());
        return true;
    }
    check_all(g, directory, name, groups);
    json_decref(groups);
    return true;
}

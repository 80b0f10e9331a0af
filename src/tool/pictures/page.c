#include "tool/pictures/page.h"

#include <math.h>
#include <string.h>

#include "base/file.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>pipestep: what the bias does</title>\n<style>\n"
    "body { margin: 0 auto; max-width: 1120px; padding: 24px; color: #222; background: #fff;\n"
    "  font: 16px/1.5 system-ui, \"DejaVu Sans\", sans-serif; }\n"
    "h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 22px; margin: 48px 0 8px;\n"
    "  border-top: 1px solid #ddd; padding-top: 24px; }\n"
    "figure { margin: 24px 0; } figure img { width: 100%; height: auto; border: 1px solid #eee; }\n"
    "figcaption { max-width: 820px; color: #444; } figcaption b { color: #222; }\n"
    "pre { background: #f6f6f6; padding: 12px; overflow-x: auto; white-space: pre-wrap;\n"
    "  font-size: 14px; } pre b { background: #dbe9f6; font-weight: normal; }\n"
    "table { border-collapse: collapse; font-size: 14px; } td, th { padding: 3px 14px 3px 0;\n"
    "  text-align: right; border-bottom: 1px solid #eee; } th { font-weight: 600; }\n"
    ".note { color: #555; font-size: 14px; } .lead { color: #555; margin: 0 0 16px; } code { "
    "font-size: 14px; }\n"
    ".heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(500px, 1fr));\n"
    "  gap: 12px; } .heads figure { margin: 0; }\n"
    "summary { cursor: pointer; margin: 16px 0; font-weight: 600; }\n"
    "</style>\n</head>\n<body>\n";

static void append_escaped(ps_text *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        switch (text[i]) {
        case '<':
            ps_text_append_str(out, "&lt;");
            break;
        case '>':
            ps_text_append_str(out, "&gt;");
            break;
        case '&':
            ps_text_append_str(out, "&amp;");
            break;
        case '"':
            ps_text_append_str(out, "&quot;");
            break;
        default:
            ps_text_append_char(out, text[i]);
        }
    }
}

/* ---- what was run ---- */

/* What a provider adds, by its name in math/bias.h; D is the distance i - j. */
static const char *formula(const char *name)
{
    static const struct {
        const char *name, *text;
    } rows[] = {
        {"alibi", "&minus;slope<sub>h</sub> &middot; D: the same for every text"},
        {"rel_pos",
         "scale &middot; (&lang;u<sub>h</sub>, k<sub>j</sub>&rang; + &lang;q<sub>i</sub> + "
         "v<sub>h</sub>, P<sub>h</sub>[D]&rang;): the first term is the <b>key part</b>, a number "
         "that each key carries with it; the second the <b>position part</b>, in which query and "
         "distance meet. u, v and P are learned (Transformer-XL, ACE-Step)"},
        {"t5", "table[bucket(D), h]: learned, the same for every text"},
        {"kerple_log", "&minus;p<sub>h</sub> log(1 + a<sub>h</sub> |D|): the same for every text"},
        {"kerple_power", "&minus;p<sub>h</sub> |D|<sup>q<sub>h</sub></sup>: the same for every "
                         "text"},
        {"sandwich", "a sum of cosines of D, stronger in the first heads: the same for every text"},
        {"fire", "a small network of log(1 + c D) / log(1 + c i): learned, the same for every "
                 "text of a length"},
        {"fox", "&sum; log f<sub>t</sub>, j &lt; t &le; i: gates f between 0 and 1 that the text "
                "itself closes; all of it counts as <b>key part</b>"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(name, rows[i].name) == 0) return rows[i].text;
    }
    return "a provider of its own";
}

static void append_formulas(const ps_scene *scene, ps_text *out)
{
    bool seen[PS_BIAS_KIND_COUNT] = {false};
    ps_text_append_str(out,
                       "<p>For query i, key j and head h, attention computes<br><code>weight = "
                       "softmax over j of (score + bias)</code>, with <code>score = ");
    if (scene->softcap > 0.0) ps_text_appendf(out, "cap<sub>%g</sub>(", scene->softcap);
    ps_text_appendf(out, "%.4g &middot; &lang;q<sub>i</sub>, k<sub>j</sub>&rang;", scene->scale);
    ps_text_appendf(out, "%s</code>%s.", scene->softcap > 0.0 ? ")" : "",
                    scene->sinks ? ", with one more learned score for each head, its sink, in the "
                                   "softmax"
                    : scene->quiet
                        ? ", with one more score of 0 in the softmax, so that a head may "
                          "attend to nothing"
                        : "");
    if (!ps_scene_has_bias(scene)) {
        ps_text_append_str(out,
                           "</p>\n<p><b>The layers shown here add no bias to their scores:</b> "
                           "positions reach attention in another way, or not at all. The "
                           "figures show the weights.</p>\n");
        return;
    }
    ps_text_append_str(out, " The bias, with D = i &minus; j, is</p>\n<ul>\n");
    for (int l = 0; l < scene->record.n_layers; l++) {
        for (int b = 0; b < scene->layers[l].n_biases; b++) {
            const ps_bias_kind kind = scene->layers[l].biases[b].kind;
            if (seen[kind]) continue;
            seen[kind] = true;
            ps_text_appendf(out, "<li><code>%s</code>: %s.</li>\n", ps_bias_kind_name(kind),
                            formula(ps_bias_kind_name(kind)));
        }
    }
    ps_text_append_str(out, "</ul>\n");
}

static void append_run(const ps_scene *scene, ps_text *out)
{
    const ps_record *record = &scene->record;
    ps_text_append_str(out,
                       "<h1>What the bias does</h1>\n<p class=\"lead\">Streaming attention adds "
                       "a bias to each score before the softmax. These pictures show it at "
                       "work in <code>");
    append_escaped(out, scene->model, strlen(scene->model));
    ps_text_appendf(out, "</code> (%s, %d layers, %d query heads of %d).</p>\n", scene->family,
                    scene->model_layers, scene->model_heads, scene->head_dim);
    append_formulas(scene, out);
    ps_text_appendf(out,
                    "<p>The text, %zu tokens; marked is the prompt, %zu of them:</p>\n<pre><b>",
                    scene->tokens.n, scene->n_prompt);
    for (size_t i = 0; i < scene->tokens.n; i++) {
        if (i == scene->n_prompt) ps_text_append_str(out, "</b>");
        append_escaped(out, ps_text_str(&scene->texts[i]), scene->texts[i].len);
    }
    ps_text_append_str(out, scene->n_prompt == scene->tokens.n ? "</b></pre>\n" : "</pre>\n");
    ps_text_append_str(out, "<p>Layers: ");
    for (int l = 0; l < record->n_layers; l++) {
        ps_text_appendf(out, "%s<a href=\"#layer%d\">%d</a>", l ? ", " : "",
                        record->layers[l].layer, record->layers[l].layer);
    }
    ps_text_append_str(out, ". All numbers: <a href=\"bias.h5\">bias.h5</a>, "
                            "<a href=\"bias.csv\">bias.csv</a>. Scripts and data of the "
                            "figures: <a href=\"figures/\">figures/</a>.</p>\n");
}

/* ---- a layer ---- */

static const char *caption(ps_figure_kind kind, bool biased)
{
    switch (kind) {
    case PS_FIGURE_MAP:
        return biased
                   ? "<b>The bias, head by head.</b> Each row is one query, reading the keys "
                     "before "
                     "it; the diagonal is the present. Red keys are pushed forward, blue ones held "
                     "back, white ones left alone. Stripes along the diagonal come of the "
                     "distance; "
                     "vertical stripes follow single keys; horizontal ones say that a query "
                     "asks differently."
                   : "<b>Attention weights, head by head.</b> Each row is one query, reading the "
                     "keys before it; the diagonal is the present. Bright keys are attended to.";
    case PS_FIGURE_DISTANCE:
        return "<b>Is the bias more than a function of the distance?</b> If it were, the thin "
               "lines "
               "of the single queries would lie on the black mean, and the grey band would have no "
               "width. How far they part is how much the bias depends on the text.";
    case PS_FIGURE_KEYS:
        return "<b>One key through time.</b> Each line follows one token from the moment it was "
               "read "
               "(left) until it leaves the window. A key part keeps the lines apart for life; "
               "where "
               "they bend, a new query asks otherwise at each step. Lines that lie on one another "
               "belong to a bias of the distance alone.";
    case PS_FIGURE_MASS:
        return "<b>Where the attention goes.</b> Left: how much of it lies within a distance; a "
               "line "
               "that rises steeply belongs to a head that looks at what is near. Dotted lines show "
               "the same without the bias. Right: what still falls on the oldest tenth of the "
               "visible keys: a head with much there is cut off by its window.";
    default:
        return "<b>Token by token.</b>";
    }
}

static void append_image(const ps_figure *f, const char *format, ps_text *out)
{
    ps_text_appendf(out,
                    "<a href=\"figures/%s.%s\"><img src=\"figures/%s.%s\" width=\"%d\" "
                    "height=\"%d\" loading=\"lazy\" alt=\"%s\"></a>",
                    f->name, format, f->name, format, f->width, f->height, f->name);
}

/* Least and greatest of a quantity in one head, NaN and infinities aside. */
static void append_range(const ps_record *record, const ps_record_layer *layer, int h,
                         ps_quantity quantity, ps_text *out)
{
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t s = 0; s < layer->n_steps; s++) {
        const float *values = ps_record_values(record, layer, s, h, quantity);
        for (int64_t j = 0; j < layer->steps[s].n; j++) {
            if (!isfinite(values[j])) continue;
            if ((double)values[j] < low) low = (double)values[j];
            if ((double)values[j] > high) high = (double)values[j];
        }
    }
    if (low > high) {
        ps_text_append_str(out, "<td>&ndash;</td>");
    } else {
        ps_text_appendf(out, "<td>%.2f to %.2f</td>", low, high);
    }
}

static void append_table(const ps_scene *scene, int l, ps_text *out)
{
    const ps_record *record = &scene->record;
    const ps_record_layer *layer = &record->layers[l];
    ps_text_append_str(out,
                       "<table>\n<tr><th>head</th><th>score</th><th>key part</th><th>position "
                       "part</th><th>bias</th><th>attention moved by the bias</th><th>attention "
                       "on the oldest tenth</th><th>the same without bias</th></tr>\n");
    for (int h = 0; h < record->n_heads; h++) {
        ps_text_appendf(out, "<tr><td>%d</td>", record->heads[h]);
        append_range(record, layer, h, PS_QUANTITY_SCORE, out);
        append_range(record, layer, h, PS_QUANTITY_KEY_PART, out);
        append_range(record, layer, h, PS_QUANTITY_POSITION_PART, out);
        append_range(record, layer, h, PS_QUANTITY_BIAS, out);
        ps_text_appendf(out, "<td>%.1f %%</td><td>%.1f %%</td><td>%.1f %%</td></tr>\n",
                        100.0 * ps_figure_moved_share(record, layer, h),
                        100.0 * ps_figure_oldest_share(record, layer, h, PS_QUANTITY_WEIGHT),
                        100.0 * ps_figure_oldest_share(record, layer, h, PS_QUANTITY_PLAIN_WEIGHT));
    }
    ps_text_appendf(out,
                    "</table>\n<p class=\"note\">Scores, parts and bias: least and greatest of all "
                    "steps. Attention: means over %s; moved is what lies on other keys than the "
                    "scores alone would have chosen.</p>\n",
                    ps_figure_full_name(layer));
}

static void append_heads(const ps_figures *figures, int l, const char *format, ps_text *out)
{
    bool open = false;
    for (size_t i = 0; i < figures->n; i++) {
        const ps_figure *f = &figures->item[i];
        if (f->layer != l || f->kind != PS_FIGURE_HEAD) continue;
        if (!open)
            ps_text_append_str(
                out, "<details open><summary>Token by token: key part + position part = bias, and "
                     "the weights</summary>\n<p>The last steps of the text, close up. Read a row: "
                     "the token at its left asks; each square says what is added to the score of "
                     "the token below it.</p>\n<div class=\"heads\">\n");
        open = true;
        ps_text_append_str(out, "<figure>");
        append_image(f, format, out);
        ps_text_append_str(out, "</figure>\n");
    }
    if (open) ps_text_append_str(out, "</div></details>\n");
}

/* What a reader wants to know first. */
static void append_moved(const ps_scene *scene, const ps_record_layer *layer, ps_text *out)
{
    double low = 1.0, high = 0.0;
    for (int h = 0; h < scene->record.n_heads; h++) {
        const double share = ps_figure_moved_share(&scene->record, layer, h);
        if (share < low) low = share;
        if (share > high) high = share;
    }
    ps_text_appendf(out,
                    ". Here <b>the bias moves %.0f to %.0f %% of a head's attention</b> to other "
                    "keys than the scores alone would choose",
                    100.0 * low, 100.0 * high);
}

static void append_layer(const ps_scene *scene, const ps_figures *figures, const char *format,
                         int l, ps_text *out)
{
    const ps_record_layer *layer = &scene->record.layers[l];
    const bool biased = scene->layers[l].n_biases > 0;
    ps_text_appendf(out, "<h2 id=\"layer%d\">Layer %d</h2>\n<p class=\"lead\">bias: ", layer->layer,
                    layer->layer);
    ps_scene_biases(&scene->layers[l], out);
    ps_text_appendf(out, "; a query sees %s", ps_text_str(&scene->visible[l]));
    if (biased && layer->n_steps > 0) append_moved(scene, layer, out);
    ps_text_append_str(out, ".</p>\n");
    if (layer->n_steps == 0) {
        ps_text_append_str(out, "<p>None of the chosen steps ran.</p>\n");
        return;
    }
    append_table(scene, l, out);
    if (!format) return;
    if (scene->record.n_heads > PS_FIGURE_HEADS)
        ps_text_appendf(out, "<p>The figures show the first %d of %d heads; --head chooses.</p>\n",
                        (int)PS_FIGURE_HEADS, scene->record.n_heads);
    for (size_t i = 0; i < figures->n; i++) {
        const ps_figure *f = &figures->item[i];
        if (f->layer != l || f->kind == PS_FIGURE_HEAD) continue;
        ps_text_append_str(out, "<figure>");
        append_image(f, format, out);
        ps_text_appendf(out, "<figcaption>%s</figcaption></figure>\n", caption(f->kind, biased));
    }
    append_heads(figures, l, format, out);
}

ps_err ps_page_write(const ps_scene *scene, const ps_figures *figures, const char *format,
                     const char *directory)
{
    ps_text page = {0}, path = {0};
    ps_text_append_str(&page, head);
    append_run(scene, &page);
    if (!format)
        ps_text_append_str(&page, "<p>No figures were drawn. <code>cd figures &amp;&amp; gnuplot "
                                  "*.gp</code> draws them.</p>\n");
    for (int l = 0; l < scene->record.n_layers; l++) {
        append_layer(scene, figures, format, l, &page);
    }
    ps_text_append_str(&page, "</body>\n</html>\n");
    ps_file_writer file;
    ps_text_appendf(&path, "%s/index.html", directory);
    ps_err err = ps_file_writer_open(ps_text_str(&path), &file);
    if (!err) {
        ps_file_writer_write(&file, page.data, page.len);
        err = ps_file_writer_commit(&file);
    }
    ps_text_release(&page);
    ps_text_release(&path);
    return err;
}

#include "tool/describe.h"

#include <string.h>

#include "tool/windows.h"

/* "label          ", as wide as the column of labels. */
static void begin_line(const char *label, ps_text *out)
{
    ps_text_appendf(out, "%-14s ", label);
}

/* "a, b, c" of facts that may not be there. */
typedef struct facts {
    ps_text *out;
    const char *between;
} facts;

static void add_text(facts *f, const char *text)
{
    ps_text_appendf(f->out, "%s%s", f->between, text);
    f->between = ", ";
}

/* A number that means nothing at `plain`. */
static void add_number(facts *f, const char *name, double value, double plain)
{
    if (value == plain) return;
    ps_text_appendf(f->out, "%s%s %g", f->between, name, value);
    f->between = ", ";
}

/* The line of a label, unless there is nothing in it. */
static void end_facts(facts *f, const char *label, ps_text *out)
{
    if (f->out->len > 0) {
        begin_line(label, out);
        ps_text_appendf(out, "%s\n", ps_text_str(f->out));
    }
    ps_text_release(f->out);
}

/* ---- what changes from layer to layer ---- */

typedef void layer_fact(const ps_spec *spec, int layer, ps_text *out);

static void window_of(const ps_spec *spec, int layer, ps_text *out)
{
    ps_windows_describe(spec, layer, out);
}

static void rope_of(const ps_spec *spec, int layer, ps_text *out)
{
    const int rope = spec->layers[layer].rope;
    if (rope < 0) {
        ps_text_append_str(out, "none");
    } else {
        ps_text_appendf(out, "%d", rope);
    }
}

static void biases_of(const ps_spec *spec, int layer, ps_text *out)
{
    const ps_layer_spec *l = &spec->layers[layer];
    if (l->n_biases == 0) ps_text_append_str(out, "none");
    for (int b = 0; b < l->n_biases; b++) {
        ps_text_appendf(out, "%s%s", b ? " + " : "", ps_bias_kind_name(l->biases[b].kind));
    }
}

static void mlp_of(const ps_spec *spec, int layer, ps_text *out)
{
    ps_text_append_str(out, spec->layers[layer].mixture ? "experts" : "dense");
}

static bool is_same(const ps_spec *spec, layer_fact *fact, int a, int b)
{
    ps_text one = {0}, other = {0};
    fact(spec, a, &one);
    fact(spec, b, &other);
    const bool same = strcmp(ps_text_str(&one), ps_text_str(&other)) == 0;
    ps_text_release(&one);
    ps_text_release(&other);
    return same;
}

/* Layers after which the fact repeats, at least once as a whole; n_layers when it does not. */
static int period_of(const ps_spec *spec, layer_fact *fact)
{
    for (int period = 1; 2 * period <= spec->n_layers; period++) {
        int layer = period;
        while (layer < spec->n_layers && is_same(spec, fact, layer, layer - period)) {
            layer++;
        }
        if (layer == spec->n_layers) return period;
    }
    return spec->n_layers;
}

/* "512", "5 x 512, full (repeated)", "2 x full, 26 x 4096". */
static void describe_layers(const ps_spec *spec, const char *label, layer_fact *fact, ps_text *out)
{
    const int period = period_of(spec, fact);
    begin_line(label, out);
    for (int layer = 0, end; layer < period; layer = end) {
        end = layer + 1;
        while (end < period && is_same(spec, fact, layer, end)) {
            end++;
        }
        if (layer > 0) ps_text_append_str(out, ", ");
        if (end - layer > 1) ps_text_appendf(out, "%d x ", end - layer);
        fact(spec, layer, out);
    }
    ps_text_append_str(out, period > 1 && period < spec->n_layers ? " (repeated)\n" : "\n");
}

/* ---- the model ---- */

static void describe_norms(const ps_spec *s, ps_text *out)
{
    static const char *const kinds[] = {[PS_NORM_RMS] = "rms", [PS_NORM_LAYER] = "layer"};
    static const char *const qk[] = {[PS_QK_NORM_NONE] = NULL,
                                     [PS_QK_NORM_HEAD] = "of each head",
                                     [PS_QK_NORM_HEADS] = "of each head with its own weights",
                                     [PS_QK_NORM_ALL] = "of all heads together"};
    begin_line("norm", out);
    ps_text_appendf(out, "%s%s, eps %g, %s", kinds[s->norm], s->norm_bias ? " with bias" : "",
                    s->norm_eps,
                    s->pre_norm && s->post_norm ? "before and behind"
                    : s->pre_norm               ? "before"
                    : s->post_norm              ? "behind"
                                                : "of the end alone");
    ps_text_appendf(out, "%s\n", s->embed_norm ? ", of the embedding" : "");
    if (!qk[s->qk_norm]) return;
    begin_line("norm of q, k", out);
    ps_text_appendf(out, "%s\n", qk[s->qk_norm]);
}

static void describe_attention(const ps_spec *s, ps_text *out)
{
    ps_text text = {0};
    facts f = {&text, ""};
    if (s->parallel) add_text(&f, s->shared_norm ? "beside mlp, one norm" : "beside mlp");
    if (s->qkv_bias) add_text(&f, s->o_bias ? "biases" : "biases of q, k, v");
    if (s->o_bias && !s->qkv_bias) add_text(&f, "bias of o");
    if (s->sinks) add_text(&f, "sinks");
    if (s->quiet_softmax) add_text(&f, "quiet softmax");
    if (s->output_gate == PS_OUTPUT_GATE_HEADS) add_text(&f, "gate on the output of each head");
    if (s->output_gate == PS_OUTPUT_GATE_ELEMENTS) add_text(&f, "gate on each output");
    add_number(&f, "softcap", s->softcap, 0.0);
    add_number(&f, "q, k, v clipped at", s->qkv_clip, 0.0);
    end_facts(&f, "attention", out);
}

static bool has_dense_layer(const ps_spec *s)
{
    for (int l = 0; l < s->n_layers; l++) {
        if (!s->layers[l].mixture) return true;
    }
    return false;
}

static void describe_mlp(const ps_spec *s, ps_text *out)
{
    begin_line("feed-forward", out);
    if (has_dense_layer(s)) ps_text_appendf(out, "%d, ", s->d_ff);
    ps_text_appendf(out, "%s%s%s\n", ps_activation_name(s->activation), s->gated ? ", gated" : "",
                    s->mlp_bias ? ", biases" : "");
    if (!ps_spec_has_mixture(s)) return;
    begin_line("experts", out);
    ps_text_appendf(out, "%d of %d, %d for a token, weights over %s%s%s\n", s->n_experts,
                    s->d_ff_expert, s->n_experts_used,
                    s->router == PS_ROUTER_ALL ? "all" : "the chosen",
                    s->router_bias ? ", router bias" : "", s->expert_bias ? ", biases" : "");
    if (has_dense_layer(s)) describe_layers(s, "mlp of layers", mlp_of, out);
}

static void describe_rope(const ps_rope *r, ps_text *out)
{
    ps_text text = {0};
    facts f = {&text, ""};
    add_text(&f, ps_rope_kind_name(r->kind));
    add_number(&f, "base", r->base, 0.0);
    add_number(&f, "dimensions", (double)r->dims, 0.0);
    add_number(&f, "factor", r->factor, 0.0);
    add_number(&f, "original length", r->original_length, 0.0);
    add_number(&f, "magnitude", r->magnitude, 1.0);
    end_facts(&f, "rope", out);
}

static void describe_positions(const ps_spec *s, ps_text *out)
{
    if (s->n_positions > 0) {
        begin_line("positions", out);
        ps_text_appendf(out, "%d, learned\n", s->n_positions);
    }
    for (int r = 0; r < s->n_ropes; r++) {
        describe_rope(&s->ropes[r], out);
    }
    if (s->n_ropes > 0) describe_layers(s, "rope of layers", rope_of, out);
    describe_layers(s, "windows", window_of, out);
    describe_layers(s, "score biases", biases_of, out);
}

static void describe_scales(const ps_spec *s, ps_text *out)
{
    ps_text text = {0};
    facts f = {&text, ""};
    add_number(&f, "embedding", s->embed_scale, 1.0);
    add_number(&f, "scores", s->attention_scale, 0.0);
    add_number(&f, "residual", s->residual_scale, 1.0);
    add_number(&f, "logits", s->logit_scale, 1.0);
    add_number(&f, "logits capped at", s->final_softcap, 0.0);
    end_facts(&f, "scales", out);
}

void ps_describe_spec(const ps_spec *s, ps_text *out)
{
    begin_line("layers", out);
    ps_text_appendf(out, "%d\n", s->n_layers);
    begin_line("model width", out);
    ps_text_appendf(out, "%d\n", s->d_model);
    begin_line("heads", out);
    ps_text_appendf(out, "%d query, %d key, of %d\n", s->n_heads, s->n_kv_heads, s->head_dim);
    describe_norms(s, out);
    describe_attention(s, out);
    describe_mlp(s, out);
    begin_line("vocabulary", out);
    ps_text_appendf(out, "%d%s%s\n", s->vocab_size,
                    s->tied_head ? ", head tied to the embedding" : "",
                    s->head_bias ? ", head with bias" : "");
    if (s->encoder) {
        begin_line("encoder", out);
        if (s->n_outputs > 0) {
            ps_text_appendf(out, "%d outputs a token\n", s->n_outputs);
        } else {
            ps_text_append_str(out, "hidden rows alone\n");
        }
    }
    begin_line("context", out);
    if (s->context > 0) {
        ps_text_appendf(out, "%lld\n", (long long)s->context);
    } else {
        ps_text_append_str(out, "not bounded\n");
    }
    describe_positions(s, out);
    describe_scales(s, out);
}

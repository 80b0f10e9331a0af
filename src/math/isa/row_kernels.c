/* The kernels over single rows: norms, activations, rotations, softmax. */
#include "math/isa/vec.h"
#include "math/kernels.h"

void PS_ISA(ps_panel_product)(const ps_panel_job *job);
void PS_ISA(ps_quant_product)(const ps_quant_job *job);
void PS_ISA(ps_quant_widen)(ps_dtype dtype, const void *panel, int k0, int k1, float *out);
void PS_ISA(ps_kv_widen_keys)(ps_dtype type, const void *tile, int k, float *out);
void PS_ISA(ps_kv_widen_value)(ps_dtype type, const void *row, int k, float *out);

static void rms_norm(const float *x, const float *weight, int n, float eps, float *out)
{
    v16 squares = v_zero();
    for (int i = 0; i < n; i += 16) {
        const v16 a = v_load_first(x + i, n - i);
        squares = v_fma(a, a, squares);
    }
    const float mean = v_sum(squares) / (float)n;
    const v16 factor = v_set(1.0f / sqrtf(mean + eps));
    for (int i = 0; i < n; i += 16) {
        const v16 a = v_load_first(x + i, n - i), w = v_load_first(weight + i, n - i);
        v_store_first(out + i, n - i, v_mul(v_mul(a, factor), w));
    }
}

static void add(const float *a, float *out, int n)
{
    for (int i = 0; i < n; i += 16) {
        const v16 sum = v_add(v_load_first(out + i, n - i), v_load_first(a + i, n - i));
        v_store_first(out + i, n - i, sum);
    }
}

static void layer_norm(const float *x, const float *weight, const float *bias, int n, float eps,
                       float *out)
{
    v16 sum = v_zero(), squares = v_zero();
    for (int i = 0; i < n; i += 16) {
        sum = v_add(sum, v_load_first(x + i, n - i));
    }
    const v16 mean = v_set(v_sum(sum) / (float)n);
    for (int i = 0; i < n; i += 16) {
        v16 a = v_sub(v_load_first(x + i, n - i), mean);
        if (n - i < 16) a = v_blend(v_less(v_lanes(), v_set((float)(n - i))), a, v_zero());
        squares = v_fma(a, a, squares);
    }
    const v16 factor = v_set(1.0f / sqrtf(v_sum(squares) / (float)n + eps));
    for (int i = 0; i < n; i += 16) {
        const v16 a = v_sub(v_load_first(x + i, n - i), mean);
        v16 y = v_mul(v_mul(a, factor), v_load_first(weight + i, n - i));
        if (bias) y = v_add(y, v_load_first(bias + i, n - i));
        v_store_first(out + i, n - i, y);
    }
}

V_INLINE v16 gelu(v16 x)
{
    const v16 size = v_with_sign_of(x, x);
    const v16 tail = v_mul(v_set(0.5f), v_erfc_positive(v_mul(size, v_set(0x1.6a09e6p-1f))));
    return v_mul(x, v_blend(v_less(x, v_zero()), tail, v_sub(v_set(1.0f), tail)));
}

V_INLINE v16 gelu_tanh(v16 x)
{
    const v16 cube = v_mul(v_mul(x, x), x);
    const v16 inner = v_fma(cube, v_set(0.044715f), x);
    return v_mul(x, v_sigmoid(v_mul(inner, v_set(0x1.988454p0f)))); // 2 sqrt(2/pi)
}

/* The activation itself; `kind` is a constant after inlining. */
V_INLINE v16 activated(ps_activation_kind kind, const ps_activation *a, v16 x)
{
    const v16 positive = v_max(v_zero(), x); // a NaN stays
    switch (kind) {
    case PS_ACTIVATION_GELU:
        return gelu(x);
    case PS_ACTIVATION_GELU_TANH:
        return gelu_tanh(x);
    case PS_ACTIVATION_GELU_QUICK:
        return v_mul(x, v_sigmoid(v_mul(x, v_set(1.702f))));
    case PS_ACTIVATION_RELU:
        return positive;
    case PS_ACTIVATION_RELU2:
        return v_mul(positive, positive);
    case PS_ACTIVATION_SWIGLU_OSS:
        x = v_min(v_set(a->limit), x);
        return v_mul(x, v_sigmoid(v_mul(x, v_set(a->alpha))));
    default:
        return v_mul(x, v_sigmoid(x));
    }
}

V_INLINE void activate_all(ps_activation_kind kind, const ps_activation *a, const float *gate,
                           const float *up, float *out, int n)
{
    for (int i = 0; i < n; i += 16) {
        v16 y = activated(kind, a, v_load_first(gate + i, n - i));
        if (up) {
            v16 u = v_load_first(up + i, n - i);
            if (kind == PS_ACTIVATION_SWIGLU_OSS) {
                u = v_max(v_set(-a->limit), v_min(v_set(a->limit), u));
                u = v_add(u, v_set(1.0f));
            }
            y = v_mul(y, u);
        }
        v_store_first(out + i, n - i, y);
    }
}

#define ACTIVATE(KIND)                                                                             \
    case KIND:                                                                                     \
        activate_all(KIND, activation, gate, up, out, n);                                          \
        break

static void activate(const ps_activation *activation, const float *gate, const float *up,
                     float *out, int n)
{
    switch (activation->kind) {
        ACTIVATE(PS_ACTIVATION_GELU);
        ACTIVATE(PS_ACTIVATION_GELU_TANH);
        ACTIVATE(PS_ACTIVATION_GELU_QUICK);
        ACTIVATE(PS_ACTIVATION_RELU);
        ACTIVATE(PS_ACTIVATION_RELU2);
        ACTIVATE(PS_ACTIVATION_SWIGLU_OSS);
    default:
        activate_all(PS_ACTIVATION_SILU, activation, gate, up, out, n);
    }
}

/* Four rows at a time, so that one row's additions need not wait for each other alone. */
static void dots(const float *rows, const float *x, int n_rows, int n, float *out)
{
    const size_t step = (size_t)n;
    int r = 0;
    for (; r + 4 <= n_rows; r += 4) {
        const float *a = rows + (size_t)r * step;
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (size_t i = 0; i < step; i++) {
            for (size_t j = 0; j < 4; j++) {
                sum[j] = fmaf(a[j * step + i], x[i], sum[j]);
            }
        }
        memcpy(out + r, sum, sizeof sum);
    }
    for (; r < n_rows; r++) {
        float sum = 0.0f;
        for (size_t i = 0; i < step; i++) {
            sum = fmaf(rows[(size_t)r * step + i], x[i], sum);
        }
        out[r] = sum;
    }
}

static void add_scaled(const float *a, const float *b, float factor, float *out, int n)
{
    const v16 f = v_set(factor);
    for (int i = 0; i < n; i += 16) {
        const v16 scaled = v_mul(v_load_first(b + i, n - i), f);
        const v16 sum = v_add(v_load_first(a + i, n - i), scaled);
        v_store_first(out + i, n - i, v_add(v_load_first(out + i, n - i), sum));
    }
}

static void gate(const float *gates, float *x, int n)
{
    for (int i = 0; i < n; i += 16) {
        const v16 open = v_sigmoid(v_load_first(gates + i, n - i));
        v_store_first(x + i, n - i, v_mul(v_load_first(x + i, n - i), open));
    }
}

static void softcap(float *x, float cap, int n)
{
    const v16 c = v_set(cap);
    for (int i = 0; i < n; i += 16) {
        v_store_first(x + i, n - i, v_mul(c, v_tanh(v_div(v_load_first(x + i, n - i), c))));
    }
}

static void clip(float *x, float limit, int n)
{
    for (int i = 0; i < n; i += 16) {
        const v16 a = v_min(v_set(limit), v_load_first(x + i, n - i)); // a NaN stays
        v_store_first(x + i, n - i, v_max(v_set(-limit), a));
    }
}

static void rope_half(float *x, const float *cosine, const float *sine, int half)
{
    for (int t = 0; t < half; t += 16) {
        const int n = half - t;
        const v16 c = v_load_first(cosine + t, n), s = v_load_first(sine + t, n);
        const v16 a = v_load_first(x + t, n), b = v_load_first(x + half + t, n);
        v_store_first(x + t, n, v_sub(v_mul(a, c), v_mul(b, s)));
        v_store_first(x + half + t, n, v_add(v_mul(b, c), v_mul(a, s)));
    }
}

/* Scores of one tile of 16 keys: scaled, biased, -inf where not visible. */
V_INLINE v16 masked_scores(const ps_softmax_job *job, int tile)
{
    v16 z = v_mul(v_load(job->z + tile), v_set(job->scale));
    if (job->softcap > 0.0f) {
        const v16 cap = v_set(job->softcap);
        z = v_mul(cap, v_tanh(v_div(z, cap)));
    }
    if (job->bias) z = v_add(z, v_load(job->bias + tile));
    if (tile >= job->first && tile + 16 <= job->last) return z;
    const v16 lane = v_add(v_lanes(), v_set((float)tile)), hidden = v_set(-INFINITY);
    z = v_blend(v_less(lane, v_set((float)job->first)), hidden, z);
    return v_blend(v_less(lane, v_set((float)job->last)), z, hidden);
}

static float softmax(const ps_softmax_job *job, float *sum)
{
    const int start = job->first / 16 * 16;
    v16 largest = v_set(-INFINITY);
    for (int tile = start; tile < job->last; tile += 16) {
        const v16 z = masked_scores(job, tile);
        v_store(job->z + tile, z);
        largest = v_max(largest, z);
    }
    const float maximum = v_largest(largest);
    // With a shift of 0 when all is -inf, the weights are exp(-inf) = 0, and a NaN still shows.
    const v16 shift = v_set(maximum == -INFINITY ? 0.0f : maximum);
    v16 total = v_zero();
    for (int tile = start; tile < job->last; tile += 16) {
        const v16 p = v_exp(v_sub(v_load(job->z + tile), shift));
        v_store(job->z + tile, p);
        total = v_add(total, p);
    }
    *sum = v_sum(total);
    return maximum;
}

static void fold(float *acc, const float *part, float keep, float take, int n)
{
    const v16 k = v_set(keep), t = v_set(take);
    for (int i = 0; i < n; i += 16) {
        const v16 kept = v_mul(v_load_first(acc + i, n - i), k);
        v_store_first(acc + i, n - i, v_fma(v_load_first(part + i, n - i), t, kept));
    }
}

static void scale(float *x, float factor, int n)
{
    for (int i = 0; i < n; i += 16) {
        v_store_first(x + i, n - i, v_mul(v_load_first(x + i, n - i), v_set(factor)));
    }
}

/* Integers i .. i + 15 of a run. */
V_INLINE void store_integers(w16 q, int i, bool pairs, ps_rounded *out)
{
#ifdef ROUND_TO_BYTES
    if (!pairs) {
        w_store_bytes(out->upper + i, w_sar(w_add(q, w_set(128)), 8));
        w_store_bytes(out->lower + i, q);
        return;
    }
#endif
    (void)pairs;
    w_store_i16(out->q + i, q);
}

/* Integers of one run; a scale that is not finite, or no normal number, leaves zeros. */
static void round_run(const float *x, float limit, bool pairs, ps_rounded *out)
{
    const v16 a = v_load(x), b = v_load(x + 16);
    const w16 magnitude = w_set(0x7FFFFFFF);
    // Without their signs, the bits of floats are in the order of their values, NaN above all.
    const w16 bits = w_max(w_and(w_bits(a), magnitude), w_and(w_bits(b), magnitude));
    const int32_t largest = w_largest(bits);
    float scale;
    memcpy(&scale, &largest, sizeof scale);
    scale /= limit;
    if (largest >= 0x7F800000) scale = NAN;
    if (scale < 0x1p-126f) scale = 0.0f;
    *out = (ps_rounded){.scale = scale};
    if (scale > 0.0f) {
        const w16 low = w_from_float(v_div(a, v_set(scale)));
        const w16 high = w_from_float(v_div(b, v_set(scale)));
        store_integers(low, 0, pairs, out);
        store_integers(high, 16, pairs, out);
        out->sum[0] = w_sum(low);
        out->sum[1] = w_sum(high);
    }
    out->sum[2] = out->sum[0] + out->sum[1];
    for (int i = 0; i < 3; i++) {
        out->scaled_sum[i] = scale * (float)out->sum[i];
    }
}

/* The other threads have read what was written here last: each line is taken back from their caches,
 * and asked for early (Zen 3, two threads, 5632 values: 8.5 us with the activation before it, 10.9
 * without). */
static void round_row(const float *x, int k, int limit, bool pairs, ps_rounded *out)
{
    enum { AHEAD_RUNS = 16, LINE_BYTES = 64 };
    for (int i = 0; i < k; i += 32) {
        const char *ahead = (const char *)&out[i / 32 + AHEAD_RUNS];
        __builtin_prefetch(ahead, 1, 3);
        __builtin_prefetch(ahead + LINE_BYTES, 1, 3);
        round_run(x + i, (float)limit, pairs, &out[i / 32]);
    }
}

static float exp_one(float x)
{
    float lanes[16];
    v_store(lanes, v_exp(v_set(x)));
    return lanes[0];
}

/* Eight vectors a turn, summed so that nothing can be left out. */
static float read_bytes(const void *bytes, size_t n)
{
    const float *p = bytes;
    v16 sums[8];
    for (int i = 0; i < 8; i++) {
        sums[i] = v_zero();
    }
    for (size_t at = 0; at + 128 <= n / sizeof *p; at += 128) {
        for (int i = 0; i < 8; i++) {
            sums[i] = v_add(sums[i], v_load(p + at + 16 * i));
        }
    }
    for (int i = 1; i < 8; i++) {
        sums[0] = v_add(sums[0], sums[i]);
    }
    return v_sum(sums[0]);
}

enum { CHAINS = 12 };

static float multiply(int turns)
{
    v16 acc[CHAINS];
    for (int i = 0; i < CHAINS; i++) {
        acc[i] = v_set((float)i);
    }
    const v16 a = v_set(0.999f), b = v_set(0.001f);
    for (int t = 0; t < turns; t++) {
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = v_fma(acc[i], a, b);
        }
    }
    for (int i = 1; i < CHAINS; i++) {
        acc[0] = v_add(acc[0], acc[i]);
    }
    return v_sum(acc[0]);
}

#define STRING_(name) #name
#define STRING(name)  STRING_(name)

const ps_kernels PS_ISA(ps_kernels) = {
    .name = STRING(PS_ISA_NAME),
    .panel_product = PS_ISA(ps_panel_product),
    .quant_product = PS_ISA(ps_quant_product),
    .quant_widen = PS_ISA(ps_quant_widen),
#ifdef ROUND_TO_BYTES
    .rounds_to_bytes = true,
    .pair_rows = PAIR_ROWS,
#endif
    .round_row = round_row,
    .rms_norm = rms_norm,
    .add = add,
    .activate = activate,
    .layer_norm = layer_norm,
    .dots = dots,
    .add_scaled = add_scaled,
    .gate = gate,
    .softcap = softcap,
    .clip = clip,
    .rope_half = rope_half,
    .softmax = softmax,
    .kv_widen_keys = PS_ISA(ps_kv_widen_keys),
    .kv_widen_value = PS_ISA(ps_kv_widen_value),
    .fold = fold,
    .scale = scale,
    .exp = exp_one,
    .read = read_bytes,
    .multiply = multiply,
    .flops_per_multiply = 2.0 * 16.0 * CHAINS,
};

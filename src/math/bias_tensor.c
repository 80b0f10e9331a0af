/* A bias that is given as a plain tensor, as a provider of one's own. */
#include "math/bias.h"

static void tensor_fill(const ps_bias *bias, const struct ps_kernels *kernels,
                        const ps_bias_tile *tile)
{
    (void)kernels;
    const ps_bias_tensor *t = bias->user;
    if (tile->sequence < 0 || tile->sequence >= t->n_sequences) return;
    for (int r = 0; r < tile->n_heads * tile->n_queries; r++) {
        const int64_t position = tile->first_position + r % tile->n_queries;
        const int64_t query = position - t->first_query;
        if (query < 0 || query >= t->q_len) continue;
        const int64_t first_key = ps_visible_first(&t->visible, position);
        const int64_t head = tile->first_head + r / tile->n_queries;
        const float *values =
            t->values +
            (((int64_t)tile->sequence * t->n_heads + head) * t->q_len + query) * t->k_len;
        float *row = tile->bias + (size_t)r * PS_SEGMENT;
        for (int j = tile->first; j < tile->last; j++) {
            const int64_t column = tile->start + j - first_key;
            if (column >= 0 && column < t->k_len) row[j] += values[column];
        }
    }
}

ps_bias ps_bias_from_tensor(const ps_bias_tensor *tensor)
{
    return (ps_bias){
        .kind = PS_BIAS_CUSTOM, .fill = tensor_fill, .user = (void *)(uintptr_t)tensor};
}

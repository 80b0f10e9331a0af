/* A parcel as it arrives from a neighbour, behind its checksum, which is put right (or else no
 * change would get past it), as are magic, length and sequence number. */
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "pipe/parcel.h"

enum { SEQUENCE = 3, BYTES_MAX = 1 << 14 };

static const ps_parcel_limits limits = {
    .rows_max = 8, .n_slots = 4, .stride = 16, .report_bytes = 256};

static void walk(const ps_parcel *p, const char *buffer, size_t n)
{
    unsigned sum = 0;
    for (uint32_t i = 0; i < p->head->n_actions; i++) {
        fuzz_require((uint32_t)p->actions[i].slot < (uint32_t)limits.n_slots);
    }
    for (uint32_t i = 0; i < p->head->n_rows; i++) {
        fuzz_require((uint32_t)p->rows[i].slot < (uint32_t)limits.n_slots);
    }
    const size_t data_bytes = (size_t)p->head->n_data * p->head->stride * sizeof(float);
    fuzz_require((size_t)((const char *)p->data - buffer) + data_bytes <= n);
    for (size_t i = 0; i < data_bytes; i++) {
        sum += ((const unsigned char *)p->data)[i];
    }
    fuzz_require(sum <= 255u * n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _Alignas(PS_MEM_ALIGN) static char buffer[BYTES_MAX];
    _Alignas(PS_MEM_ALIGN) static char small[512];
    const ps_parcel good = ps_parcel_begin(small, PS_PARCEL_WORK, SEQUENCE, 0, 0, limits.stride);
    ps_parcel parcel;
    ps_parcel_head head = {0};
    if (size > sizeof buffer - sizeof head.hash) return 0;
    const size_t n = size + sizeof head.hash;
    memcpy(buffer + sizeof head.hash, data, size);
    if (n >= sizeof head) {
        memcpy(&head, buffer, sizeof head);
        head.magic = good.head->magic;
        head.sequence = SEQUENCE;
        head.bytes = n;
        memcpy(buffer, &head, sizeof head);
    }
    head.hash = XXH3_64bits(buffer + sizeof head.hash, size);
    memcpy(buffer, &head.hash, sizeof head.hash);
    if (fuzz_is_ok(ps_parcel_open(buffer, n, SEQUENCE, &limits, &parcel))) walk(&parcel, buffer, n);
    return 0;
}

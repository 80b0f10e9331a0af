#include "pipe/parcel.h"

#include <string.h>
#include <xxhash.h>

#include "base/mem.h"

static const uint32_t MAGIC = 0x4C435350; // "PSCL"

static size_t data_offset(size_t n_entries)
{
    return ps_mem_round_up(sizeof(ps_parcel_head) + n_entries * 16, 64);
}

static size_t actions_max(const ps_parcel_limits *limits)
{
    return 2 * (size_t)limits->n_slots;
}

size_t ps_parcel_bytes_max(const ps_parcel_limits *limits)
{
    const size_t rows = (size_t)limits->rows_max;
    const size_t work =
        data_offset(actions_max(limits) + rows) + rows * limits->stride * sizeof(float);
    const size_t stop = data_offset(0) + limits->report_bytes;
    const size_t state = data_offset(0) + sizeof(ps_parcel_state);
    const size_t control = stop > state ? stop : state;
    return work > control ? work : control;
}

static ps_parcel point_into(char *buffer, size_t n_actions, size_t n_rows)
{
    char *entries = buffer + sizeof(ps_parcel_head);
    return (ps_parcel){.head = (void *)buffer,
                       .actions = (void *)entries,
                       .rows = (void *)(entries + n_actions * sizeof(ps_parcel_action)),
                       .data = (void *)(buffer + data_offset(n_actions + n_rows))};
}

ps_parcel ps_parcel_begin(char *buffer, ps_parcel_kind kind, uint64_t sequence, int n_actions,
                          int n_rows, uint32_t stride)
{
    const ps_parcel p = point_into(buffer, (size_t)n_actions, (size_t)n_rows);
    *p.head = (ps_parcel_head){.magic = MAGIC,
                               .kind = kind,
                               .sequence = sequence,
                               .n_actions = (uint32_t)n_actions,
                               .n_rows = (uint32_t)n_rows,
                               .stride = stride};
    // The gap before the data is hashed and sent: it must not be left over from an older parcel.
    char *end = (char *)(p.rows + n_rows);
    memset(end, 0, (size_t)((char *)p.data - end));
    return p;
}

static uint64_t hash_of(const char *buffer, size_t bytes)
{
    return XXH3_64bits(buffer + sizeof(uint64_t), bytes - sizeof(uint64_t));
}

size_t ps_parcel_seal(const ps_parcel *parcel, int n_data)
{
    char *buffer = (char *)parcel->head;
    parcel->head->n_data = (uint32_t)n_data;
    parcel->head->bytes = (uint64_t)((char *)parcel->data - buffer) +
                          (uint64_t)n_data * parcel->head->stride * sizeof(float);
    parcel->head->hash = hash_of(buffer, parcel->head->bytes);
    return parcel->head->bytes;
}

static bool head_is_sane(const ps_parcel_head *head, const ps_parcel_limits *limits)
{
    size_t data; // n_data * stride fits: both are 32 bits wide
    if (!ps_mem_mul((size_t)head->n_data * head->stride, sizeof(float), &data)) return false;
    if (head->kind != PS_PARCEL_WORK) {
        const bool stops = head->kind == PS_PARCEL_STOP;
        if (!stops && head->kind != PS_PARCEL_SAVE && head->kind != PS_PARCEL_LOAD) return false;
        return head->n_actions == 0 && head->n_rows == 0 &&
               data == (stops ? limits->report_bytes : sizeof(ps_parcel_state)) &&
               data_offset(0) + data == head->bytes;
    }
    return head->n_actions <= actions_max(limits) && head->n_rows <= (uint32_t)limits->rows_max &&
           head->stride == limits->stride && head->n_data <= head->n_rows &&
           data_offset((size_t)head->n_actions + head->n_rows) + data == head->bytes;
}

static bool state_is_sane(const ps_parcel *p, const ps_parcel_limits *limits)
{
    if (p->head->kind != PS_PARCEL_SAVE && p->head->kind != PS_PARCEL_LOAD) return true;
    const ps_parcel_state *s = (const void *)p->data;
    return s->slot >= 0 && s->slot < limits->n_slots && s->position >= 1 && s->length >= 0 &&
           s->err >= PS_OK && s->err < PS_ERR_COUNT &&
           memchr(s->message, '\0', sizeof s->message) && memchr(s->path, '\0', sizeof s->path);
}

static bool entries_are_sane(const ps_parcel *p, const ps_parcel_limits *limits)
{
    for (uint32_t i = 0; i < p->head->n_actions; i++) {
        const ps_parcel_action *a = &p->actions[i];
        if (a->slot < 0 || a->slot >= limits->n_slots) return false;
        if (a->kind < PS_ACTION_END || a->kind > PS_ACTION_BEGIN || a->argument < 0) return false;
        if (a->kind == PS_ACTION_FORK && (a->argument >= limits->n_slots || a->argument == a->slot))
            return false;
    }
    for (uint32_t i = 0; i < p->head->n_rows; i++) {
        const ps_parcel_row *r = &p->rows[i];
        if (r->slot < 0 || r->slot >= limits->n_slots || r->position < 0) return false;
    }
    return true;
}

ps_err ps_parcel_open(char *buffer, size_t bytes, uint64_t sequence, const ps_parcel_limits *limits,
                      ps_parcel *out)
{
    const ps_parcel_head *head = (const void *)buffer;
    if (bytes < sizeof *head || head->magic != MAGIC || head->bytes != bytes)
        return PS_FAIL(PS_ERR_LOST, "parcel %llu: %zu bytes arrived that are not a parcel",
                       (unsigned long long)sequence, bytes);
    if (hash_of(buffer, bytes) != head->hash)
        return PS_FAIL(PS_ERR_LOST, "parcel %llu: changed on the way, its checksum differs",
                       (unsigned long long)sequence);
    if (head->sequence != sequence)
        return PS_FAIL(PS_ERR_LOST, "parcel %llu arrived where %llu was expected",
                       (unsigned long long)head->sequence, (unsigned long long)sequence);
    *out = point_into(buffer, head->n_actions, head->n_rows);
    if (!head_is_sane(head, limits) || !entries_are_sane(out, limits) ||
        !state_is_sane(out, limits))
        return PS_FAIL(PS_ERR_LOST, "parcel %llu: its head contradicts this run's sizes",
                       (unsigned long long)sequence);
    return PS_OK;
}

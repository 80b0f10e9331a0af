/* A machine that is led through ACE-Step's states. */
#include "support/acestep_machine.h"

#include <check.h>
#include <string.h>

#include "base/mem.h"

acestep_lm lm;

void open_lm(void)
{
    ck_assert_msg(acestep_lm_open(&lm) == PS_OK, "%s", ps_err_message());
}

void close_lm(void)
{
    acestep_lm_close(&lm);
}

machine open_machine_of(const ps_acestep_vocabulary *v, int V, const ps_acestep_params *p)
{
    machine m = {.V = V};
    m.logits = ps_mem_new((size_t)V, sizeof *m.logits);
    m.allowed = ps_mem_new(((size_t)V + 63) / 64, sizeof *m.allowed);
    ck_assert_msg(ps_acestep_states_new(v, p, &m.c) == PS_OK, "%s", ps_err_message());
    return m;
}

machine open_machine(const ps_acestep_params *p)
{
    return open_machine_of(lm.vocabulary, lm.V, p);
}

void close_machine(machine *m)
{
    m->c->kind->free(m->c);
    ps_mem_free(m->logits);
    ps_mem_free(m->allowed);
    ps_text_release(&m->text);
}

machine copy_machine(const machine *m)
{
    machine to = {.c = m->c->kind->copy(m->c), .V = m->V};
    to.logits = ps_mem_new((size_t)m->V, sizeof *to.logits);
    to.allowed = ps_mem_new(((size_t)m->V + 63) / 64, sizeof *to.allowed);
    ps_text_append(&to.text, ps_text_str(&m->text), m->text.len);
    return to;
}

void expect_state(const machine *m, const char *name)
{
    ck_assert_str_eq(ps_acestep_states_name(m->c), name);
}

void advance(machine *m, int32_t token)
{
    ck_assert_int_eq(ps_tokenizer_decode(lm.tokenizer, &token, 1, false, &m->text), PS_OK);
    m->c->kind->advance(m->c, token);
}

int32_t certain(machine *m)
{
    ps_expectation e;
    m->c->kind->expect(m->c, &e);
    return e.certain;
}

const char *follow_certain(machine *m)
{
    ps_text_clear(&m->text);
    for (int32_t token;
         strcmp(ps_acestep_states_name(m->c), "COMPLETED") != 0 && (token = certain(m)) >= 0;) {
        advance(m, token);
    }
    return ps_text_str(&m->text);
}

bool find_allowed(machine *m, int32_t largest)
{
    bool all = false;
    for (int v = 0; v < m->V; v++) {
        m->logits[v] = v == largest ? 1.0f : 0.0f;
    }
    ck_assert_int_eq(m->c->kind->allow(m->c, m->logits, m->allowed, &all), PS_OK);
    for (int v = 0; all && v < m->V; v++) {
        m->allowed[v / 64] |= UINT64_C(1) << (v % 64);
    }
    return all;
}

bool is_allowed(const machine *m, int32_t token)
{
    return m->allowed[token / 64] >> (token % 64) & 1;
}

int count_allowed(const machine *m)
{
    int n = 0;
    for (int v = 0; v < m->V; v++) {
        n += is_allowed(m, v);
    }
    return n;
}

void take(machine *m, int32_t token)
{
    find_allowed(m, token);
    ck_assert_msg(is_allowed(m, token), "token %d after \"%s\"", token, ps_text_str(&m->text));
    advance(m, token);
}

int32_t token_of(const char *text)
{
    const int32_t token = ps_tokenizer_find(lm.tokenizer, text);
    ck_assert_msg(token >= 0, "no token %s", text);
    return token;
}

void take_text(machine *m, const char *text)
{
    ps_tokens tokens = {0};
    ck_assert_int_eq(ps_tokenizer_encode(lm.tokenizer, text, strlen(text), false, &tokens), PS_OK);
    for (size_t i = 0; i < tokens.n; i++) {
        take(m, tokens.ids[i]);
    }
    ps_tokens_release(&tokens);
}

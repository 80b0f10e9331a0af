#include "support/same_model.h"

#include <check.h>

#include "base/text.h"
#include "model/ckpt.h"
#include "support/scratch.h"

void assert_same_model(const char *one, const char *other)
{
    ps_ckpt a, b;
    ps_text a_spec = {0}, b_spec = {0};
    assert_ok(ps_ckpt_open(one, &a));
    assert_ok(ps_ckpt_open(other, &b));
    ps_spec_to_json(&a.spec, &a_spec);
    ps_spec_to_json(&b.spec, &b_spec);
    ck_assert_str_eq(ps_text_str(&a_spec), ps_text_str(&b_spec));
    ck_assert_uint_eq(a.tokenizer.len, b.tokenizer.len);
    if (a.tokenizer.len > 0) ck_assert_mem_eq(a.tokenizer.data, b.tokenizer.data, a.tokenizer.len);
    ck_assert_int_eq(a.n_tensors, b.n_tensors);
    for (int i = 0; i < a.n_tensors; i++) {
        ck_assert_int_eq(a.tensors[i].dtype, b.tensors[i].dtype);
        ck_assert_uint_eq(a.tensors[i].hash, b.tensors[i].hash);
    }
    ps_text_release(&a_spec);
    ps_text_release(&b_spec);
    ps_ckpt_close(&a);
    ps_ckpt_close(&b);
}

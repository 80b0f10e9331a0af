/* Whether two model files hold the same model, whatever they were made from. */
#ifndef PS_TESTS_SAME_MODEL_H
#define PS_TESTS_SAME_MODEL_H

/* Fails unless spec, tokenizer and every tensor are equal, bit for bit. */
void assert_same_model(const char *one, const char *other);

#endif

/* A tokenizer for synthetic models of ACE-Step's language model: the ids that matter are where the
 * real one has them, the words between are made up.
 *
 *   0 .. 255            bytes, in the order of GPT-2: line end 198, blank 220
 *   271                 two line ends
 *   256 .. 151642       words that stand in no text; as text " w" and their id
 *   151643 .. 151668    Qwen's added tokens: 151645 <|im_end|>, 151667 <think>, 151668 </think>
 *   151669 .. 217203    <|audio_code_N|>, N = 0 .. 65534
 *
 * So a text takes as many tokens as it has bytes, some four times those of the real one.
 *
 * MPI: local.
 */
#ifndef PS_TOOL_SYNTHETIC_TOKENIZER_H
#define PS_TOOL_SYNTHETIC_TOKENIZER_H

#include "base/text.h"

enum { PS_SYNTHETIC_VOCABULARY = 217204, PS_SYNTHETIC_END = 151645 };

/* Appends it as a model file holds it. */
ps_err ps_synthetic_tokenizer_pack(ps_text *out) PS_MUST_CHECK;

#endif

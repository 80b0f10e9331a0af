/* The report at the end of a run: lines on standard error, and JSON with --report.
 *
 *   bubble = 1 - sum of busy over stages / (S x wall)
 */
#ifndef PS_TOOL_REPORT_H
#define PS_TOOL_REPORT_H

#include "base/text.h"
#include "tool/job.h"

void ps_report_describe(const ps_job *job, ps_text *out);
void ps_report_to_json(const ps_job *job, ps_text *out);

#endif

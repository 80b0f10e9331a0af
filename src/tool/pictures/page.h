/* DIR/index.html: what was run, what the figures show and how to read them. Refers to the figures
 * beside it by relative links, and to nothing else.
 *
 * Errors: PS_ERR_IO.   MPI: local.
 */
#ifndef PS_TOOL_PICTURES_PAGE_H
#define PS_TOOL_PICTURES_PAGE_H

#include "tool/pictures/figures.h"

/* format: "svg" or "png"; NULL when no figures were drawn. */
ps_err ps_page_write(const ps_scene *scene, const ps_figures *figures, const char *format,
                     const char *directory) PS_MUST_CHECK;

#endif

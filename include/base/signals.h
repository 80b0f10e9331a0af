/* Signals that ask a job for something. Handlers only note them; whoever works looks.
 *
 *   SIGUSR1           save and stop        (schedulers' warning)
 *   SIGTERM, SIGINT   stop; the second ends the process at once, as if nothing handled it
 *   SIGUSR2           tell how it goes
 *
 * MPI: local. mpirun passes SIGUSR1 and SIGUSR2 on to all ranks, and ends them with SIGTERM, and a
 * second later SIGKILL, when it is told to end.
 */
#ifndef PS_BASE_SIGNALS_H
#define PS_BASE_SIGNALS_H

#include <stdbool.h>

/* By rank: what two ranks ask for, the higher one is done. */
typedef enum ps_asked {
    PS_ASKED_NOTHING,
    PS_ASKED_SAVE,
    PS_ASKED_INTERRUPT,
    PS_ASKED_TERMINATE
} ps_asked;

void ps_signals_handle_save(void);
void ps_signals_handle_stop(void);
void ps_signals_handle_tell(void);

/* What was asked for so far. */
ps_asked ps_signals_asked(void);

/* True once for each SIGUSR2. */
bool ps_signals_take_tell(void);

#endif

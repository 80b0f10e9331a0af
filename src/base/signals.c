#include "base/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static volatile sig_atomic_t wanted;
static atomic_bool tell;

static void on_signal(int number)
{
    switch (number) {
    case SIGUSR1:
        if (wanted < PS_ASKED_SAVE) wanted = PS_ASKED_SAVE;
        break;
    case SIGUSR2:
        atomic_store(&tell, true);
        break;
    default: {
        const bool again = wanted > PS_ASKED_SAVE;
        wanted = number == SIGTERM ? PS_ASKED_TERMINATE : PS_ASKED_INTERRUPT;
        if (!again) break;
        // Blocked until this handler returns, then the end.
        signal(number, SIG_DFL);
        raise(number);
    }
    }
}

static void handle(int number)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void ps_signals_handle_save(void)
{
    handle(SIGUSR1);
}

/* Who was started with a signal ignored (a shell's background jobs: SIGINT) goes on ignoring it. */
static void handle_if_wanted(int number)
{
    struct sigaction before;
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN) handle(number);
}

void ps_signals_handle_stop(void)
{
    handle_if_wanted(SIGTERM);
    handle_if_wanted(SIGINT);
}

void ps_signals_handle_tell(void)
{
    handle(SIGUSR2);
}

ps_asked ps_signals_asked(void)
{
    return (ps_asked)wanted;
}

bool ps_signals_take_tell(void)
{
    return atomic_exchange(&tell, false);
}

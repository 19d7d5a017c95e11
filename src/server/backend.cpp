// SPDX-License-Identifier: PostgreSQL
//
// ERROR to exception, in one place.  Like PG_TRY, but the throw happens after the handler has been
// taken off and the error state is clean, so no longjmp and no exception ever cross each other.
#include "backend.hpp"

extern "C" {
#include "postgres.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
}

namespace pg_ha {

namespace {

struct CaughtError {
    int sqlstate;
    char message[400];
};

// Copies the error that is being handled to plain memory and leaves the error state empty.
void take_error(MemoryContext context, CaughtError *caught) {
    MemoryContextSwitchTo(context);
    ErrorData *error = CopyErrorData();
    FlushErrorState();
    caught->sqlstate = error->sqlerrcode;
    strlcpy(caught->message, error->message ? error->message : "unknown error", sizeof(caught->message));
    FreeErrorData(error);
    LWLockReleaseAll(); // there is no transaction whose abort would do it
}

} // namespace

void guarded_call(void (*body)(void *), void *argument) {
    sigjmp_buf *outer_stack = PG_exception_stack;
    ErrorContextCallback *outer_context = error_context_stack;
    MemoryContext memory = CurrentMemoryContext;
    CaughtError caught = {};
    sigjmp_buf here;

    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        try {
            body(argument);
        } catch (...) {
            PG_exception_stack = outer_stack;
            error_context_stack = outer_context;
            throw;
        }
        PG_exception_stack = outer_stack;
        error_context_stack = outer_context;
        return;
    }
    PG_exception_stack = outer_stack;
    error_context_stack = outer_context;
    take_error(memory, &caught);
    throw BackendError(caught.sqlstate, caught.message);
}

} // namespace pg_ha

// SPDX-License-Identifier: PostgreSQL
//
// Walks election.pml along what the simulator has done (scripts/check-traces).  The trace names the
// steps; whether each is possible, and what it does, is said by election.pml alone: a step whose guard is
// false blocks, and after each step the node has to look as the trace has seen it.  Nothing here may
// change what a node knows, but for S and w, which come from the trace: how those change is the subject
// of sync_change.pml.
//
// TRACE is the name of a file that defines N, TERMS, LSNS, STEPS and the arrays step, who, x, y, z (what
// the step needs) and term_is, vote_is, gate_is, timeline_is, lsn_is (what is seen after it).  A place is
// the number of a WAL position among those that the trace names.

#define PLACE short
byte record_set, record_quorum, postgres_set, postgres_quorum; // of the step under way
#define RECORD_SET(me) record_set
#define RECORD_QUORUM(me) record_quorum
#define POSTGRES_SET(me) postgres_set
#define POSTGRES_QUORUM(me) postgres_quorum

#define T_BEGINS 0
#define T_STAND 1
#define T_WIN 2
#define T_OPEN 3
#define T_STEP_DOWN 4
#define T_PROMOTION_FAILS 5
#define T_SHUT_GATE_FOR 6
#define T_DECIDE_VOTE 7
#define T_SHUT_GATE 8
#define T_LEARN_TERM 9
#define T_FOLLOW 10
#define T_WAL 11
#define T_ANSWER 12
#define T_CRASH 13
#define T_READ_WAL 14
#define T_CLONE 15
#define T_UNTOLD 16

#include TRACE
#include "election.pml"

short at; // number of the step
byte me, from;

// All servers are stopped, with the same WAL.
inline begin() {
    for (i : 0 .. N - 1) {
        timeline[i] = 1;
        lsn[i] = lsn_is[at];
        known[i] = false
    }
    i = 0;
    length[1] = lsn_is[at];
    for (place : 0 .. lsn_is[at] - 1) {
        ENTRY(1, place) = 1
    }
    place = 0
}

init {
    do
    :: at < STEPS ->
        me = who[at];
        printf("step %d\n", at);
        if
        :: step[at] == T_BEGINS -> begin()
        :: step[at] == T_STAND -> STAND(me)
        :: step[at] == T_WIN ->
            record_set = x[at];
            record_quorum = y[at];
            WIN(me)
        :: step[at] == T_OPEN -> OPEN(me)
        :: step[at] == T_STEP_DOWN -> STEP_DOWN(me)
        :: step[at] == T_PROMOTION_FAILS -> PROMOTION_FAILS(me)
        :: step[at] == T_SHUT_GATE_FOR -> SHUT_GATE_FOR(me, x[at])
        :: step[at] == T_DECIDE_VOTE -> DECIDE_VOTE(me)
        :: step[at] == T_SHUT_GATE -> SHUT_GATE(me)
        :: step[at] == T_LEARN_TERM -> LEARN_TERM(me, x[at])
        :: step[at] == T_FOLLOW -> FOLLOW(me, x[at])
        :: step[at] == T_WAL ->
            do
            :: lsn[me] >= lsn_is[at] -> break
            :: lsn[me] < lsn_is[at] && writes_on[me] != 0 -> WRITE(me)
            :: lsn[me] < lsn_is[at] && writes_on[me] == 0 ->
                from = (gate[me] > timeline_is[at] -> gate[me] : timeline_is[at]);
                RECEIVE(me, from)
            od
        :: step[at] == T_ANSWER ->
            postgres_set = y[at];
            postgres_quorum = z[at];
            ANSWER(me, x[at])
        :: step[at] == T_CRASH ->
            if
            :: role[me] != STANDBY || known[me] -> CRASH(me)
            :: else // it had not read its WAL since the last one
            fi
        :: step[at] == T_READ_WAL -> READ_WAL(me)
        :: step[at] == T_CLONE -> CLONE(me, x[at])
        :: step[at] == T_UNTOLD -> UNTOLD(me, x[at], y[at])
        fi;
        assert(term[me] == term_is[at]);
        assert(vote[me] == vote_is[at]);
        assert(gate[me] == gate_is[at]);
        assert(timeline[me] == timeline_is[at]);
        assert(lsn[me] == lsn_is[at]);
        at++
    :: else -> break
    od;
    printf("all steps are taken\n")
}

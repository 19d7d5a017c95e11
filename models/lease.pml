// SPDX-License-Identifier: PostgreSQL
//
// Lease, promise and fence while one primary is taken over by another: rules I6 and I7 of
// docs/protocol.md, and "What time does, and does not do".  Decides which answers the old primary's
// sessions can still give.  A commit is check, flush, in synchronous mode the wait for a standby,
// check again, answer; every process may be paused for any time between any two of these.
//
//  * Default: asynchronous mode.  The lease is the only fence.  No commit passes its last check after
//    a successor was elected; and the known window: at most one answer per session, of a commit that
//    had passed its last check, comes late.  With SHOW_WINDOW even that one is called an error, so
//    that the checker has to find it: the window is real.
//  * SYNCHRONOUS: an answered commit is on the successor, late or not, and whatever the clocks do: no
//    promise is ever kept, and to the sessions the lease never ends by itself.  (Every run with real
//    clocks is one of these.)  In asynchronous mode positions protect nothing and are left out.
//
// Time: one tick is some fraction of a second.  A timer of n ticks of its owner's clock runs for n
// real ticks give or take one, which is how drift enters: the lease may last one longer, the promise
// one shorter.  (Clocks that err the other way only end a lease sooner.)  So the margin has to be two
// ticks here; src/core takes a tenth of the lease for clocks that err by 5 %.
//
// Node 0 is the primary of term 1; nodes 1 and 2 are standbys and voters, either may stand for term 2.
//
// Planted bugs (-D...): see the end of this file.

#define N 3
#ifndef SESSIONS
#define SESSIONS 2
#endif
#ifndef COMMITS
#define COMMITS 2 // of one session
#endif
#define PROMISE 4
#ifdef NO_MARGIN
#define LEASE PROMISE
#else
#define LEASE (PROMISE - 2)
#endif
#define LONG_AGO (LEASE + 1) // a round of this age renews nothing

#define BIT(n) (1 << (n))
#define MAJORITY(bits) (((bits) & 1) + ((bits) >> 1 & 1) + ((bits) >> 2 & 1) >= 2)

// ---- the old primary ------------------------------------------------------------------------------------

byte lease = LEASE; // real ticks left, in shared memory: every session sees it
bool fenced;        // stepped down or resigned: the lease is zero and stays so
bool dead;          // postmaster and node worker were killed; sessions may live on as orphans
byte round_age = LONG_AGO; // ticks since the newest heartbeat round was sent
byte replied;       // voters whose answer to that round is under way or has arrived
bool asks_nothing;  // that round asks for no promise, and its answers renew nothing
bool resigned;      // said so to all, after zeroing the lease
byte flushed;       // end of its WAL, in commits

// ---- the voters 1 and 2 -------------------------------------------------------------------------------------

byte promise[N];    // real ticks left
bool void_promise[N];
bool got_round[N];  // the newest round has reached it
byte voted[N];      // in term 2: 0 nobody, else candidate
byte position[N];   // flushed; what is flushed while the gate is open is acknowledged
bool standing[N];
byte votes[N];      // grants that were sent to this candidate
byte successor;     // elected in term 2; 0: nobody yet

#ifdef SYNCHRONOUS
#define LEASE_HOLDS (!fenced)
#define PROMISED(v) false
#else
#define LEASE_HOLDS (lease > 0)
#define PROMISED(v) (promise[v] > 0 && !void_promise[v])
#endif

// ---- sessions of the old primary -----------------------------------------------------------------------------

#define CONFIRMED(upto) (position[1] >= upto || position[2] >= upto) // w = 2: the primary and one more

// The last look: the lease, and, since a wait can be cancelled, the standbys' confirmation.
#ifdef SYNCHRONOUS
#ifdef CANCELLED_WAIT_ANSWERED
#define QUORUM_HAS(upto) true
#else
#define QUORUM_HAS(upto) CONFIRMED(upto)
#endif
#else
#define QUORUM_HAS(upto) true
#endif
#ifdef NO_RECHECK
#define LAST_LOOK(upto) true
#else
#define LAST_LOOK(upto) (LEASE_HOLDS && QUORUM_HAS(upto))
#endif

proctype session() {
    byte done, place; // commits so far; place in the WAL of the one under way
    bool late;        // one answer has come after the successor's election
end:do
    :: d_step { done < COMMITS && LEASE_HOLDS -> done++ } // the look before
#ifdef SYNCHRONOUS
        d_step { flushed++; place = flushed } // the flush
        if                                    // the wait
        :: CONFIRMED(place)
        :: true // cancelled by the user
        fi;
#endif
        if
        :: d_step { LAST_LOOK(place) ->
#ifndef SYNCHRONOUS
                    assert(successor == 0) // S3: nobody else may acknowledge yet
#endif
           }
        :: !LAST_LOOK(place) -> goto closed // the connection, without an answer
        fi;
        d_step { // the answer
#ifdef SYNCHRONOUS
            assert(successor == 0 || position[successor] >= place); // S2, S4
#else
            assert(successor == 0 || !late); // at most one commit of each session
            late = successor != 0;
#ifdef SHOW_WINDOW
            assert(!late);
#endif
#endif
            place = 0
        }
    od;
closed:
    skip
}

// ---- the old primary's node worker -----------------------------------------------------------------------------

inline fence() {
    fenced = true;
    lease = 0
}

inline new_round(nothing) {
    round_age = 0;
    replied = 0;
    got_round[1] = false;
    got_round[2] = false;
    asks_nothing = nothing
}
// I6: what was answered without a promise holds nobody back.
#ifdef LEASE_WITHOUT_PROMISE
#define BINDS true
#else
#define BINDS (!asks_nothing)
#endif

// I6: from the time of sending; `slow` is what a slow clock adds.
inline renew(slow) {
#ifdef LEASE_FROM_RECEIPT
    lease = LEASE + slow
#else
    if
    :: LEASE + slow > round_age && LEASE + slow - round_age > lease -> lease = LEASE + slow - round_age
    :: else
    fi
#endif
}

#ifdef SYNCHRONOUS
#define BEHIND(c, position_of_voter) (position[c] < position_of_voter)
#else
#define BEHIND(c, position_of_voter) false
#endif
#define MAY_VOTE(v, c) (standing[c] && voted[v] == 0 && !BEHIND(c, position[v]))

proctype worker() {
end:do
#ifndef SYNCHRONOUS
    :: d_step { !dead && !fenced -> new_round(false) }
    :: d_step { !dead && !fenced -> new_round(true) } // in the core only while no majority answers
    :: d_step { !dead && !fenced && replied != 0 && BINDS -> renew(0) } // with the primary itself a majority
    :: d_step { !dead && !fenced && replied != 0 && BINDS -> renew(1) }
#endif
    :: d_step { !dead && !fenced && (voted[1] != 0 || voted[2] != 0) -> fence() } // hears of term 2
    :: d_step { !dead && !fenced -> fence(); resigned = true }
    // Its own vote, once its lease is over: it steps down first.
    :: d_step { !dead && !resigned && (lease == 0 || fenced) && standing[1] && voted[0] == 0 && !BEHIND(1, flushed) ->
                fence(); voted[0] = 1; votes[1] = votes[1] | BIT(0) }
    :: d_step { !dead && !resigned && (lease == 0 || fenced) && standing[2] && voted[0] == 0 && !BEHIND(2, flushed) ->
                fence(); voted[0] = 2; votes[2] = votes[2] | BIT(0) }
#ifdef SYNCHRONOUS
    :: d_step { !dead && lease > 0 -> lease = 0 } // its worker believes so; its sessions do not
#endif
    :: d_step { !dead -> dead = true } -> break
    od
}

// ---- voters ------------------------------------------------------------------------------------------------------

// A heartbeat reaches the voter, which answers; `fast` is what a fast clock takes off its promise.  Asked
// for none, it gives none, and one that it gave before runs on.
inline follow(v, fast) {
    got_round[v] = true;
    replied = replied | BIT(v);
    if
    :: !asks_nothing -> promise[v] = PROMISE - fast; void_promise[v] = false
    :: else
    fi
}

proctype voter(byte v) {
end:do
#ifdef SYNCHRONOUS
    // WAL, as long as the gate is open (I3); what is under way when the primary dies still arrives.
    :: d_step { voted[v] == 0 && position[v] < flushed -> position[v]++ }
#else
    :: d_step { voted[v] == 0 && !got_round[v] && round_age < LONG_AGO -> follow(v, 0) }
    :: d_step { voted[v] == 0 && !got_round[v] && round_age < LONG_AGO -> follow(v, 1) }
    // I7.
    :: d_step { voted[v] == 0 && !void_promise[v] && resigned -> void_promise[v] = true }
#ifdef EVIDENCE_IN_ASYNC
    :: d_step { voted[v] == 0 && !void_promise[v] && dead -> void_promise[v] = true }
#endif
    // A restart: it no longer knows what it promised.
    :: d_step { voted[v] == 0 && PROMISED(v) ->
#ifdef RESTARTED_VOTER_VOTES_AT_ONCE
                promise[v] = 0;
#else
                promise[v] = PROMISE - 1;
#endif
                void_promise[v] = false }
#endif
    // Stand, vote, win: gate, position, term and vote are one step, see election.pml.
    :: d_step { voted[v] == 0 && !PROMISED(v) -> voted[v] = v; standing[v] = true; votes[v] = votes[v] | BIT(v) }
    :: d_step { !PROMISED(v) && MAY_VOTE(v, 3 - v) -> voted[v] = 3 - v; votes[3 - v] = votes[3 - v] | BIT(v) }
    :: d_step { standing[v] && successor == 0 && MAJORITY(votes[v]) -> successor = v }
    od
}

// ---- time --------------------------------------------------------------------------------------------------------

#define ONE_LESS(timer) timer = (timer > 0 -> timer - 1 : 0)

proctype clock() {
end:do
    :: d_step { lease > 0 || promise[1] > 0 || promise[2] > 0 || round_age < LONG_AGO ->
                ONE_LESS(lease);
                ONE_LESS(promise[1]);
                ONE_LESS(promise[2]);
                round_age = (round_age < LONG_AGO -> round_age + 1 : LONG_AGO) }
    od
}

// At the start a round has just been answered by all.
init {
    byte i;
    atomic {
        promise[1] = PROMISE;
        promise[2] = PROMISE;
        for (i : 1 .. SESSIONS) {
            run session()
        }
        i = 0;
        run worker();
        run voter(1);
        run voter(2);
#ifndef SYNCHRONOUS
        run clock()
#endif
    }
}

// Planted bugs, and what each leads to (asynchronous mode, unless said otherwise):
//   LEASE_FROM_RECEIPT             a slow answer gives a lease that outlives the promises
//   LEASE_WITHOUT_PROMISE          answers to a round that asked for no promise renew the lease
//   NO_MARGIN                      a slow primary and fast voters: the same
//   RESTARTED_VOTER_VOTES_AT_ONCE  the lease runs, but the voter has forgotten its promise
//   EVIDENCE_IN_ASYNC              killed postmaster and worker: orphans answer until the lease ends
//   NO_RECHECK                     a commit that was paused, or waited, is answered in any later term;
//                                  with SYNCHRONOUS: after the primary's own vote for another
//   CANCELLED_WAIT_ANSWERED        with SYNCHRONOUS: what no standby has is answered as committed

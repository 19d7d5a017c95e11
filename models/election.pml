// SPDX-License-Identifier: PostgreSQL
//
// Elections with frozen WAL: rules I1 to I5 of docs/protocol.md, in synchronous mode (S = all three
// voters, w = 2).  Decides whether two primaries of one term, or the loss of an acknowledged commit,
// can be reached.  It knows no time at all: a promise may run out at any moment, so what holds here
// holds with any clock.  It must stay as permissive as src/core; what it leaves out only forbids
// steps (pre-votes, staggered candidates) or is another model's subject (lease, configuration).
// That it is so permissive is tested: trace.pml lets it walk what the simulator has done.
//
// How things are put:
//  * A message once sent may arrive at any later time, several times, or never: requests and grants
//    are facts that stay, and whoever reads one takes a step then.
//  * WAL is a tree.  history(t) is the WAL of the primary of term t, one entry per commit; a node's
//    WAL is the beginning of one history, so its position (timeline of the last entry, number of
//    entries) says all.  A commit is known by its timeline and its place.
//  * What a standby has flushed through an open gate it has acknowledged; the acknowledgement may be
//    under way for any time.
//  * A crash forgets all but term, vote and WAL; the node is back at once as a standby that does not
//    know its position.  A node that is down is one that takes no step.
//  * The things that happen are the macros in capitals near the end, guard and action: node() chooses
//    any of them at any time, trace.pml takes those that it is told.
//
// Planted bugs (-D...): see the end of this file.

#ifndef N
#define N 3 // voters, all in S
#endif
#define W (N / 2 + 1) // write quorum
#ifndef TERMS
#define TERMS 3 // term 1 exists at the start: two more elections
#endif
#ifndef LSNS
#define LSNS 2 // commits per history
#endif

#define NOBODY 0
#define ID(n) (n + 1) // a node as a vote, a leader or a request: 0 is nobody
#define BIT(n) (1 << (n))
#define HAS(set, n) ((set) >> (n) & 1)

// Some trace has more commits, and other rules in force at its members, than can be searched.
#ifndef TRACE
#define PLACE byte
#define RECORD_SET(me) (BIT(N) - 1)
#define RECORD_QUORUM(me) W
#define POSTGRES_SET(me) (BIT(N) - 1)
#define POSTGRES_QUORUM(me) W
#endif

#define STANDBY 0
#define CANDIDATE 1
#define PROMOTING 2 // elected, PostgreSQL still in recovery
#define PRIMARY 3
#define DEPOSED 4 // PostgreSQL is writable, but nothing may be acknowledged

// ---- the nodes -----------------------------------------------------------------------------------

byte term[N] = 1;
byte vote[N];
#ifdef VOTE_NOT_DURABLE
byte disk_term[N] = 1;
byte disk_vote[N];
#endif
byte role[N];
byte timeline[N]; // position: timeline of the last entry ...
PLACE lsn[N];     // ... and number of entries
bool known[N] = true; // false after a restart, until the own WAL is read to its end
byte gate[N];     // 0: shut; t: streams from the primary of term t
byte promotes[N];  // term for which PostgreSQL was told to leave recovery, and has not yet
byte writes_on[N]; // timeline on which PostgreSQL writes; 0: in recovery
byte asked[N];    // ID of the candidate whose request waits for the gate to be shut
#ifdef POSITION_BEFORE_GATE
byte seen_timeline[N];
PLACE seen_lsn[N];
#endif

// ---- what has been sent, and what has happened ------------------------------------------------------

byte ask_term[N]; // newest vote request of each candidate, with its position
byte ask_timeline[N];
PLACE ask_lsn[N];
byte granted[N];  // who has voted for it in that term

byte leader_of[TERMS + 1]; // ID of who was elected
PLACE length[TERMS + 1];   // of its history
byte history[(TERMS + 1) * LSNS]; // by which timeline each entry was written
#define ENTRY(t, place) history[(t) * LSNS + (place)]

PLACE flushed[(TERMS + 1) * N]; // how far node n has acknowledged to the primary of term t
#define FLUSHED(t, n) flushed[(t) * N + (n)]
PLACE answered[TERMS + 1]; // up to here clients of the primary of term t were told: committed

hidden byte i, count;
hidden PLACE place;

// ---- words -----------------------------------------------------------------------------------------

// I5: compared by timeline first.
#ifdef LSN_WITHOUT_TIMELINE
#define AHEAD(t1, l1, t2, l2) (l1 > l2)
#else
#define AHEAD(t1, l1, t2, l2) (t1 > t2 || (t1 == t2 && l1 > l2))
#endif

// I4: the node's WAL is the beginning of the history of term t.
#ifdef STREAM_WITHOUT_LINEAGE
#define DESCENDS(n, t) true
#else
#define DESCENDS(n, t) (lsn[n] == 0 || (lsn[n] <= length[t] && ENTRY(t, lsn[n] - 1) == timeline[n]))
#endif

// I2: on disk before anything is said.
inline store(n) {
#ifdef VOTE_NOT_DURABLE
    disk_term[n] = term[n];
    disk_vote[n] = vote[n]
#else
    skip
#endif
}

#if N > 3
#define SIZE(set) (HAS(set, 0) + HAS(set, 1) + HAS(set, 2) + HAS(set, 3) + HAS(set, 4))
#else
#define SIZE(set) (HAS(set, 0) + HAS(set, 1) + HAS(set, 2))
#endif

// S4: everything that clients of older primaries were told is in this history.
inline check_nothing_lost(t) {
    for (i : 1 .. TERMS) {
        if
        :: i < t && answered[i] > 0 ->
            assert(length[t] >= answered[i] && ENTRY(t, answered[i] - 1) == i)
        :: else
        fi
    }
    i = 0
}

// What reaches a primary that is none any more cannot matter; keeping it would only multiply states.
#define LEADS(n, t) ((role[n] == PRIMARY && writes_on[n] == t) || (role[n] == PROMOTING && term[n] == t))
#define LISTENS(t) LEADS(leader_of[t] - 1, t)
inline acknowledge(n, t) {
    if
    :: LISTENS(t) -> FLUSHED(t, n) = lsn[n]
    :: else
    fi
}
inline forget_acknowledgements(t) {
    for (i : 0 .. N - 1) {
        FLUSHED(t, i) = 0
    }
    i = 0
}
// PostgreSQL that was told to promote may still do so: nobody can call it back.
inline step_down(me) {
    if
    :: role[me] == PRIMARY -> role[me] = DEPOSED; forget_acknowledgements(writes_on[me])
    :: role[me] == PROMOTING -> role[me] = STANDBY; forget_acknowledgements(term[me])
    :: role[me] == CANDIDATE -> role[me] = STANDBY
    :: else
    fi
}

// ---- standing and winning ----------------------------------------------------------------------------

// Gate, position, term and own vote in one step: nothing can be acknowledged while the gate is shut.
inline stand(me) {
    gate[me] = 0;
    term[me]++;
    vote[me] = ID(me);
    store(me);
    role[me] = CANDIDATE;
    ask_term[me] = term[me];
    ask_timeline[me] = timeline[me];
    ask_lsn[me] = lsn[me];
    granted[me] = BIT(me)
}

// Elected: its WAL, which stands still until it is open, becomes the beginning of the history of its term.
inline win(me) {
    assert(leader_of[term[me]] == NOBODY); // S1
    leader_of[term[me]] = ID(me);
    role[me] = PROMOTING;
    if
    :: promotes[me] == 0 -> promotes[me] = term[me]
    :: else // the promotion of an earlier term is still under way
    fi;
    length[term[me]] = lsn[me];
    for (place : 0 .. LSNS - 1) {
        if
        :: place < lsn[me] -> ENTRY(term[me], place) = ENTRY(timeline[me], place)
        :: else
        fi
    }
    place = 0;
    check_nothing_lost(term[me])
}

// PostgreSQL has left recovery.  Too late for its term: it is fenced until it has become a standby again.
inline open(me) {
    writes_on[me] = promotes[me];
    promotes[me] = 0;
    role[me] = (role[me] == PROMOTING && term[me] == writes_on[me] -> PRIMARY : DEPOSED)
}

// I5: majority of the voters; and |S| - w + 1 members of S.
#define ENOUGH(me) (SIZE(granted[me]) > N / 2 && \
                    SIZE(granted[me] & RECORD_SET(me)) + RECORD_QUORUM(me) > SIZE(RECORD_SET(me)))

// ---- voting ------------------------------------------------------------------------------------------

#ifdef POSITION_BEFORE_GATE
#define BEHIND(me, c) AHEAD(seen_timeline[me], seen_lsn[me], ask_timeline[c], ask_lsn[c])
#else
#ifdef UNKNOWN_POSITION_VOTES
#define BEHIND(me, c) (known[me] && AHEAD(timeline[me], lsn[me], ask_timeline[c], ask_lsn[c]))
#else
#define BEHIND(me, c) AHEAD(timeline[me], lsn[me], ask_timeline[c], ask_lsn[c])
#endif
#endif
#ifdef UNKNOWN_POSITION_VOTES
#define READY(me) true
#else
#define READY(me) known[me]
#endif

#define MAY_VOTE(me, c) \
    (ask_term[c] > term[me] || (ask_term[c] == term[me] && (vote[me] == NOBODY || vote[me] == ID(c))))

// I3, first half.  A primary whose lease is over steps down here: after this it acknowledges nothing.
inline shut_gate_for(me, c) {
    asked[me] = ID(c);
#ifndef FENCE_FORGOTTEN
    if
    :: role[me] == PRIMARY || role[me] == PROMOTING -> step_down(me)
    :: else
    fi;
#endif
#ifdef POSITION_BEFORE_GATE
    seen_timeline[me] = timeline[me];
    seen_lsn[me] = lsn[me]
#else
#ifndef GATE_NOT_SHUT
    gate[me] = 0
#endif
#endif
}

// I3, second half: read the position, decide, store, answer.
inline decide_vote(me) {
    place = asked[me] - 1; // the candidate
    asked[me] = NOBODY;
#ifdef POSITION_BEFORE_GATE
    gate[me] = 0;
#endif
    if
    :: MAY_VOTE(me, place) && !BEHIND(me, place) ->
        term[me] = ask_term[place];
        vote[me] = ID(place);
        if
        :: role[me] == CANDIDATE -> role[me] = STANDBY
        :: else
        fi;
#ifndef VOTE_NOT_DURABLE
        store(me);
#endif
        granted[place] = granted[place] | BIT(me)
    :: else // refused; the gate stays shut until the primary of the stored term is heard again
    fi;
    place = 0
}
// ---- following and streaming ---------------------------------------------------------------------------

// A higher term, told by whomever: nobody is followed until its primary is heard.
inline adopt_term(me, t) {
    step_down(me);
    gate[me] = 0;
    term[me] = t;
    vote[me] = NOBODY;
    store(me)
}

// A heartbeat of the primary of term t arrives.
inline follow(me, t) {
    if
    :: t > term[me] -> adopt_term(me, t)
    :: else -> step_down(me)
    fi;
    if
    :: role[me] == STANDBY && known[me] && asked[me] == NOBODY && DESCENDS(me, t) ->
        gate[me] = t;
        acknowledge(me, t) // PostgreSQL reports where it stands, and nobody asks on which timeline
    :: else
    fi
}
#define NEWS(me, t) \
    (leader_of[t] != NOBODY && leader_of[t] != ID(me) && \
     (t > term[me] || (t == term[me] && role[me] != PRIMARY && \
                       (role[me] == CANDIDATE || (role[me] == STANDBY && gate[me] != t && known[me] && \
                                                  asked[me] == NOBODY && DESCENDS(me, t))))))

// The gate is open for the primary of one term.  PostgreSQL connects by itself: before the worker has
// heard of it, that server may be the primary of a later term, or a standby of one that hands WAL on;
// what continues the own WAL is taken.  Only a primary counts who has what.
inline receive(me, t) {
#ifndef GATE_NOT_SHUT
    assert(gate[me] == term[me]); // S6: no WAL of an older primary after a vote or a newer term
#endif
    timeline[me] = ENTRY(t, lsn[me]);
    lsn[me]++;
    if
    :: leader_of[t] == leader_of[gate[me]] -> acknowledge(me, t)
    :: else
    fi
}

// ---- the primary's PostgreSQL ---------------------------------------------------------------------------

inline write(me) {
    ENTRY(writes_on[me], lsn[me]) = writes_on[me];
    lsn[me]++;
    length[writes_on[me]] = lsn[me];
    timeline[me] = writes_on[me]
}

// w members of S have what lies before `upto`, the primary counted, and its clients are told.
#define BY(me, n, upto) (n != me && HAS(POSTGRES_SET(me), n) && FLUSHED(writes_on[me], n) >= upto)
#if N > 3
#define OTHERS(me, upto) \
    (BY(me, 0, upto) + BY(me, 1, upto) + BY(me, 2, upto) + BY(me, 3, upto) + BY(me, 4, upto))
#else
#define OTHERS(me, upto) (BY(me, 0, upto) + BY(me, 1, upto) + BY(me, 2, upto))
#endif
#define CAN_ANSWER(me, upto) \
    (role[me] == PRIMARY && lsn[me] >= upto && answered[writes_on[me]] < upto && \
     ENTRY(writes_on[me], upto - 1) == writes_on[me] && OTHERS(me, upto) >= POSTGRES_QUORUM(me) - 1)

inline answer(me, upto) {
    answered[writes_on[me]] = upto;
    for (i : 1 .. TERMS) { // whoever has been elected since must have it
        if
        :: i > writes_on[me] && leader_of[i] != NOBODY ->
            assert(length[i] >= answered[writes_on[me]] &&
                   ENTRY(i, answered[writes_on[me]] - 1) == writes_on[me]) // S4
        :: else
        fi
    }
    i = 0
}

// ---- beginning again ----------------------------------------------------------------------------------------

inline crash(me) {
    step_down(me);
    role[me] = STANDBY;
    gate[me] = 0;
    promotes[me] = 0;
    writes_on[me] = 0;
    asked[me] = NOBODY;
    known[me] = false;
#ifdef VOTE_NOT_DURABLE
    term[me] = disk_term[me];
    vote[me] = disk_vote[me]
#endif
}

// A save that the node was told had failed, or did not survive, is on disk all the same: it uses up a vote
// that nobody will ever count.
inline untold(me, t, v) {
    if
    :: t > term[me] -> adopt_term(me, t)
    :: else
    fi;
    vote[me] = v;
    store(me)
}

// Rewound or cloned from a primary of term t: what it has acknowledged is gone if that primary lacks it.
#ifdef CLONE_OF_OLDER_TERM
#define MAY_CLONE(me, t) true
#else
#define MAY_CLONE(me, t) (term[me] <= t)
#endif
inline clone(me, t) {
    crash(me);
    if
    :: t > term[me] -> adopt_term(me, t)
    :: else
    fi;
    lsn[me] = length[t];
    timeline[me] = (lsn[me] > 0 -> ENTRY(t, lsn[me] - 1) : 0)
}

// The node worker shuts the gate and decides in one go: no other message is looked at in between.  WAL
// and clients are other processes' work, so the steps of PostgreSQL, and a crash, may come between.
#ifdef EVENT_BEFORE_VOTE
#define FREE(me) true
#else
#define FREE(me) (asked[me] == NOBODY)
#endif

// ---- everything that can happen ----------------------------------------------------------------------------

#define STAND(me) d_step { role[me] == STANDBY && known[me] && FREE(me) && term[me] < TERMS -> stand(me) }
#define WIN(me) d_step { role[me] == CANDIDATE && FREE(me) && ask_term[me] == term[me] && ENOUGH(me) -> win(me) }
#define OPEN(me) d_step { promotes[me] != 0 -> open(me) }
// Given up: a ballot, a promotion, an office.
#define STEP_DOWN(me) d_step { role[me] != STANDBY && role[me] != DEPOSED && FREE(me) -> step_down(me) }
#define PROMOTION_FAILS(me) d_step { promotes[me] != 0 -> promotes[me] = 0 } // the worker hears of it later
#define SHUT_GATE_FOR(me, c) d_step { READY(me) && asked[me] == NOBODY && MAY_VOTE(me, c) -> shut_gate_for(me, c) }
#define DECIDE_VOTE(me) d_step { asked[me] != NOBODY -> decide_vote(me) }
#define SHUT_GATE(me) d_step { gate[me] != 0 && asked[me] == NOBODY -> gate[me] = 0 }
#define LEARN_TERM(me, t) d_step { FREE(me) && t > term[me] && TOLD(t) -> adopt_term(me, t) }
#define UNTOLD(me, t, v) d_step { FREE(me) && (t > term[me] || (t == term[me] && vote[me] == NOBODY)) -> untold(me, t, v) }
#define FOLLOW(me, t) d_step { FREE(me) && NEWS(me, t) -> follow(me, t) }
#define RECEIVE(me, t) d_step { gate[me] != 0 && gate[me] <= t && IN_RECOVERY(me) && lsn[me] < length[t] && \
                                DESCENDS(me, t) -> receive(me, t) }
#define WRITE(me) d_step { writes_on[me] != 0 && lsn[me] < LSNS -> write(me) }
#define ANSWER(me, upto) d_step { CAN_ANSWER(me, upto) -> answer(me, upto) }
#define CRASH(me) d_step { role[me] != STANDBY || known[me] -> crash(me) }
#define READ_WAL(me) d_step { !known[me] -> known[me] = true }
#define CLONE(me, t) d_step { leader_of[t] != NOBODY && writes_on[leader_of[t] - 1] == t && \
                              writes_on[me] == 0 && !DESCENDS(me, t) && MAY_CLONE(me, t) -> clone(me, t) }

#define IN_RECOVERY(me) (writes_on[me] == 0 && promotes[me] == 0) // one that was told to promote asks for no more
#if N > 3
#define TOLD(t) (term[0] >= t || term[1] >= t || term[2] >= t || term[3] >= t || term[4] >= t)
#else
#define TOLD(t) (term[0] >= t || term[1] >= t || term[2] >= t)
#endif

#ifndef TRACE
proctype node(byte me) {
end:do // terms are bounded, so everything may come to rest
    :: STAND(me)
    :: WIN(me)
    :: OPEN(me)
    :: STEP_DOWN(me)
    :: PROMOTION_FAILS(me)
    :: SHUT_GATE_FOR(me, (me + 1) % N)
    :: SHUT_GATE_FOR(me, (me + 2) % N)
    :: DECIDE_VOTE(me)
    :: SHUT_GATE(me)
    :: LEARN_TERM(me, 2)
    :: FOLLOW(me, 1)
    :: FOLLOW(me, 2)
#ifndef WITHOUT_CLONES // half of all states
    :: CLONE(me, 1)
    :: CLONE(me, 2)
#endif
#if TERMS > 2
    :: LEARN_TERM(me, 3)
    :: FOLLOW(me, 3)
    :: RECEIVE(me, 3)
#ifndef WITHOUT_CLONES
    :: CLONE(me, 3)
#endif
#endif
    :: RECEIVE(me, 1)
    :: RECEIVE(me, 2)
    :: WRITE(me)
    :: ANSWER(me, 1)
#if LSNS > 1
    :: ANSWER(me, 2)
#endif
    :: CRASH(me)
    :: READ_WAL(me)
    od
}

// Node 0 is the primary of term 1, with its own vote; nobody has any WAL.
init {
    d_step {
        role[0] = PRIMARY;
        vote[0] = ID(0);
#ifdef VOTE_NOT_DURABLE
        disk_vote[0] = ID(0);
#endif
        writes_on[0] = 1;
        leader_of[1] = ID(0)
    }
    atomic {
        run node(0);
        run node(1);
        run node(2)
    }
}
#endif

// Planted bugs, and what each leads to:
//   VOTE_NOT_DURABLE        a voter that crashes votes twice: two primaries of one term
//   GATE_NOT_SHUT           a voter goes on acknowledging to the old primary: acknowledged commit lost
//   POSITION_BEFORE_GATE    the same, in the moment between reading and shutting
//   LSN_WITHOUT_TIMELINE    a longer dead timeline beats the one with the commits
//   UNKNOWN_POSITION_VOTES  a restarted voter does not see that it is ahead
//   STREAM_WITHOUT_LINEAGE  a diverged standby acknowledges commits that it does not have
//   FENCE_FORGOTTEN         a primary that voted for another goes on answering clients
//   EVENT_BEFORE_VOTE       the worker takes another message between shutting its gate and its vote
//   CLONE_OF_OLDER_TERM     a server is cloned from a primary whose term it has left: what it had acknowledged
//                           to the newer one is gone

// SPDX-License-Identifier: PostgreSQL
//
// Elections with frozen WAL: rules I1 to I5 of docs/protocol.md, in synchronous mode (S = all three
// voters, w = 2).  Decides whether two primaries of one term, or the loss of an acknowledged commit,
// can be reached.  It knows no time at all: a promise may run out at any moment, so what holds here
// holds with any clock.  It must stay as permissive as src/core; what it leaves out only forbids
// steps (pre-votes, staggered candidates) or is another model's subject (lease, configuration).
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
//
// Planted bugs (-D...): see the end of this file.

#define N 3 // voters, all in S
#define W 2 // write quorum
#ifndef TERMS
#define TERMS 3 // term 1 exists at the start: two more elections
#endif
#ifndef LSNS
#define LSNS 2 // commits per history
#endif

#define NOBODY 0
#define ID(n) (n + 1) // a node as a vote, a leader or a request: 0 is nobody
#define BIT(n) (1 << (n))

#define STANDBY 0
#define CANDIDATE 1
#define PRIMARY 2
#define DEPOSED 3 // PostgreSQL is writable, but nothing may be acknowledged

// ---- the nodes -----------------------------------------------------------------------------------

byte term[N] = 1;
byte vote[N];
#ifdef VOTE_NOT_DURABLE
byte disk_term[N] = 1;
byte disk_vote[N];
#endif
byte role[N];
byte timeline[N]; // position: timeline of the last entry ...
byte lsn[N];      // ... and number of entries
bool known[N] = true; // false after a restart, until the own WAL is read to its end
byte gate[N];     // 0: shut; t: streams from the primary of term t
byte writes_on[N]; // timeline on which PostgreSQL writes; 0: in recovery
byte asked[N];    // ID of the candidate whose request waits for the gate to be shut
#ifdef POSITION_BEFORE_GATE
byte seen_timeline[N];
byte seen_lsn[N];
#endif

// ---- what has been sent, and what has happened ------------------------------------------------------

byte ask_term[N]; // newest vote request of each candidate, with its position
byte ask_timeline[N];
byte ask_lsn[N];
byte granted[N];  // who has voted for it in that term

byte leader_of[TERMS + 1]; // ID of who was elected
byte length[TERMS + 1];    // of its history
byte history[(TERMS + 1) * LSNS]; // by which timeline each entry was written
#define ENTRY(t, place) history[(t) * LSNS + (place)]

byte flushed[(TERMS + 1) * N]; // how far node n has acknowledged to the primary of term t
#define FLUSHED(t, n) flushed[(t) * N + (n)]
byte answered[TERMS + 1];  // up to here clients of the primary of term t were told: committed

hidden byte i, count, place;

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

inline count_bits(bits) {
    count = (bits & 1) + (bits >> 1 & 1) + (bits >> 2 & 1)
}

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
#define LISTENS(t) (role[leader_of[t] - 1] == PRIMARY && writes_on[leader_of[t] - 1] == t)
inline acknowledge(n, t) {
    if
    :: LISTENS(t) -> FLUSHED(t, n) = lsn[n]
    :: else
    fi
}
inline depose(me) {
    role[me] = DEPOSED;
    FLUSHED(writes_on[me], 0) = 0;
    FLUSHED(writes_on[me], 1) = 0;
    FLUSHED(writes_on[me], 2) = 0
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

// Elected and promoted: its WAL becomes the beginning of the history of its term.
inline win(me) {
    assert(leader_of[term[me]] == NOBODY); // S1
    leader_of[term[me]] = ID(me);
    role[me] = PRIMARY;
    writes_on[me] = term[me];
    length[term[me]] = lsn[me];
    for (i : 0 .. LSNS - 1) {
        if
        :: i < lsn[me] -> ENTRY(term[me], i) = ENTRY(timeline[me], i)
        :: else
        fi
    }
    check_nothing_lost(term[me])
}

// I5: majority of the voters; and |S| - w + 1 members of S.
#define ENOUGH (count > N / 2 && count >= N - W + 1)

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
    :: role[me] == PRIMARY -> depose(me)
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

// A heartbeat of the primary of term t arrives.
inline follow(me, t) {
    if
    :: t > term[me] ->
        term[me] = t;
        vote[me] = NOBODY;
        gate[me] = 0;
        store(me)
    :: else
    fi;
    if
    :: role[me] == PRIMARY -> depose(me)
    :: role[me] == CANDIDATE -> role[me] = STANDBY
    :: else
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

inline receive(me) {
#ifndef GATE_NOT_SHUT
    assert(gate[me] == term[me]); // S6: no WAL of an older primary after a vote or a newer term
#endif
    timeline[me] = ENTRY(gate[me], lsn[me]);
    lsn[me]++;
    acknowledge(me, gate[me])
}

// ---- the primary's PostgreSQL ---------------------------------------------------------------------------

inline write(me) {
    ENTRY(writes_on[me], lsn[me]) = writes_on[me];
    lsn[me]++;
    length[writes_on[me]] = lsn[me];
    timeline[me] = writes_on[me]
}

// The highest position that w members have, the primary counted, and the clients behind it are told.
#define BY(me, n) FLUSHED(writes_on[me], n)
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define CONFIRMED(me) (MAX(BY(me, (me + 1) % N), BY(me, (me + 2) % N)) < lsn[me] -> \
                       MAX(BY(me, (me + 1) % N), BY(me, (me + 2) % N)) : lsn[me])
#define CAN_ANSWER(me) \
    (CONFIRMED(me) > answered[writes_on[me]] && ENTRY(writes_on[me], CONFIRMED(me) - 1) == writes_on[me])

inline answer(me) {
    answered[writes_on[me]] = CONFIRMED(me);
    for (place : 1 .. TERMS) { // whoever has been elected since must have it
        if
        :: place > writes_on[me] && leader_of[place] != NOBODY ->
            assert(length[place] >= answered[writes_on[me]] &&
                   ENTRY(place, answered[writes_on[me]] - 1) == writes_on[me]) // S4
        :: else
        fi
    }
    place = 0
}

inline crash(me) {
    if
    :: role[me] == PRIMARY -> depose(me)
    :: else
    fi;
    role[me] = STANDBY;
    gate[me] = 0;
    writes_on[me] = 0;
    asked[me] = NOBODY;
    known[me] = false;
#ifdef VOTE_NOT_DURABLE
    term[me] = disk_term[me];
    vote[me] = disk_vote[me]
#endif
}

// The node worker shuts the gate and decides in one go: no other message is looked at in between.  WAL
// and clients are other processes' work, so the steps of PostgreSQL, and a crash, may come between.
#ifdef EVENT_BEFORE_VOTE
#define FREE(me) true
#else
#define FREE(me) (asked[me] == NOBODY)
#endif

// ---- everything that can happen ----------------------------------------------------------------------------

proctype node(byte me) {
end:do // terms are bounded, so everything may come to rest
    :: d_step { role[me] == STANDBY && known[me] && FREE(me) && term[me] < TERMS -> stand(me) }
    :: d_step { role[me] == CANDIDATE && FREE(me) && ask_term[me] == term[me] -> count_bits(granted[me]);
                if :: ENOUGH -> win(me) :: else fi }
    :: d_step { READY(me) && asked[me] == NOBODY && MAY_VOTE(me, (me + 1) % N) -> shut_gate_for(me, (me + 1) % N) }
    :: d_step { READY(me) && asked[me] == NOBODY && MAY_VOTE(me, (me + 2) % N) -> shut_gate_for(me, (me + 2) % N) }
    :: d_step { asked[me] != NOBODY -> decide_vote(me) }
    :: d_step { FREE(me) && NEWS(me, 1) -> follow(me, 1) }
    :: d_step { FREE(me) && NEWS(me, 2) -> follow(me, 2) }
#if TERMS > 2
    :: d_step { FREE(me) && NEWS(me, 3) -> follow(me, 3) }
#endif
#if TERMS > 3
    :: d_step { FREE(me) && NEWS(me, 4) -> follow(me, 4) }
#endif
    :: d_step { gate[me] != 0 && lsn[me] < length[gate[me]] -> receive(me) }
    :: d_step { writes_on[me] != 0 && lsn[me] < LSNS -> write(me) }
    :: d_step { role[me] == PRIMARY && CAN_ANSWER(me) -> answer(me) }
    :: d_step { role[me] != STANDBY || known[me] -> crash(me) }
    :: d_step { !known[me] -> known[me] = true }
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

// Planted bugs, and what each leads to:
//   VOTE_NOT_DURABLE        a voter that crashes votes twice: two primaries of one term
//   GATE_NOT_SHUT           a voter goes on acknowledging to the old primary: acknowledged commit lost
//   POSITION_BEFORE_GATE    the same, in the moment between reading and shutting
//   LSN_WITHOUT_TIMELINE    a longer dead timeline beats the one with the commits
//   UNKNOWN_POSITION_VOTES  a restarted voter does not see that it is ahead
//   STREAM_WITHOUT_LINEAGE  a diverged standby acknowledges commits that it does not have
//   FENCE_FORGOTTEN         a primary that voted for another goes on answering clients
//   EVENT_BEFORE_VOTE       the worker takes another message between shutting its gate and its vote

// SPDX-License-Identifier: PostgreSQL
//
// Changes of the sync rule (sync set S, write quorum w) while primaries come and go: rules I5, I8 and
// I9 of docs/protocol.md.  Decides whether an acknowledged commit can be missing on a later primary,
// whatever elementary steps were under way, half done, or shown to the next primary.  It knows no
// time and no lease: a primary acknowledges as long as it has not heard of a later term.
//
// How things are put (see also election.pml, which proves the vote that is one step here):
//  * DATA data nodes, and WITNESS voters without WAL that act as one (two witnesses that always move
//    together).  With witnesses a majority of voters need not meet the w members that have a commit,
//    so everything hangs on the sync rule.
//  * A lost standby leaves S, and comes back, by the same steps as any other; nothing here asks why.
//  * A configuration is one number, (term, index) in order; its rule is kept beside it.
//  * PostgreSQL's rule changes at one moment: the one at which it is in effect in all processes.
//  * WAL is a tree, a node's WAL is the beginning of the history of a term, as in election.pml.
//
// Planted bugs (-D...): see the end of this file.

#ifndef DATA
#define DATA 2
#endif
#ifndef WITNESS
#define WITNESS 1 // votes of the witness; 0: none
#endif
#ifndef TERMS
#define TERMS 3 // term 1 exists at the start
#endif
#ifndef LSNS
#define LSNS 1 // commits per history
#endif
#ifndef VERSIONS
#define VERSIONS 2 // configurations of one term, the first of the term included
#endif

#if WITNESS > 0
#define N (DATA + 1)
#else
#define N DATA
#endif
#define VOTES (DATA + WITNESS)
#define IS_DATA(n) (n < DATA)
#define BIT(n) (1 << (n))
#define HAS(set, n) ((set) >> (n) & 1)

#define STANDBY 0
#define CANDIDATE 1
#define PRIMARY 2

#define FIRST_OF(t) ((t) * VERSIONS)
#define TERM_OF(v) ((v) / VERSIONS)

// ---- the nodes ----------------------------------------------------------------------------------------

byte term[N] = 1;
bool voted[N];
byte role[N];
byte timeline[N]; // position
byte lsn[N];
byte gate[N];     // 0: shut; t: streams from the primary of term t
byte record[N] = FIRST_OF(1); // newest configuration stored
byte granted[N];  // votes that have reached this candidate
byte equal[N];    // of those, voters that have exactly its WAL

// PostgreSQL's own rule in effect; it is in a file and outlives a crash.
byte pg_set[N]; // (the witness's is never used)
byte pg_quorum[N];

// Of a primary.
bool in_force[N]; // its newest record is
bool ready[N];    // a record of its own term has been: from then on it may acknowledge
bool tightening[N]; // PostgreSQL already waits for the next rule, the record does not say so yet
byte target[N];   // position at which that came into effect

// ---- what has been recorded, sent, told ------------------------------------------------------------------

byte set_of[(TERMS + 1) * VERSIONS];
byte quorum_of[(TERMS + 1) * VERSIONS];
byte leader_of[TERMS + 1]; // node + 1
byte newest[TERMS + 1];    // configuration of that term's primary
byte stored[TERMS + 1];    // who has told that primary to have stored it

byte length[TERMS + 1];
byte history[(TERMS + 1) * LSNS];
#define ENTRY(t, place) history[(t) * LSNS + (place)]
byte flushed[(TERMS + 1) * DATA];
#define FLUSHED(t, n) flushed[(t) * DATA + (n)]
byte answered[TERMS + 1];

hidden byte i, n, count, votes;

// ---- counting ----------------------------------------------------------------------------------------------

// count: members of a set of nodes; votes: those among them, the witness with all of its votes.
inline count_bits(bits) {
    count = HAS(bits, 0) + HAS(bits, 1) + (DATA > 2 -> HAS(bits, 2) : 0);
#if WITNESS > 0
    votes = count + WITNESS * HAS(bits, DATA)
#else
    votes = count
#endif
}

// The members that may be in S: those with WAL.
#ifdef WITNESS_IN_S // and called one that has everything
#define SET_MASK (BIT(N) - 1)
#else
#define SET_MASK (BIT(DATA) - 1)
#endif
#define SIZE(set) (HAS(set, 0) + HAS(set, 1) + HAS(set, 2))
#define SET(me) set_of[record[me]]
#define QUORUM(me) quorum_of[record[me]]

// I9.
#ifdef RULES_NOT_COMPARED
#define MEET(me) true
#else
#define MEET(me) (pg_quorum[me] >= QUORUM(me) + SIZE(pg_set[me] & ~SET(me)))
#endif
#define SAME_RULE(me) (pg_set[me] == SET(me) && pg_quorum[me] == QUORUM(me))

// 'ANY w-1 (S)': PostgreSQL waits for so many others out of S and takes the primary for one of the w.
#define OTHERS(me) (pg_quorum[me] - 1)

// count: how many members of the set have everything up to there.
inline count_flushed(me, set, upto, itself) {
    count = 0;
    for (n : 0 .. DATA - 1) {
        if
        :: HAS(set, n) && n != me && FLUSHED(term[me], n) >= upto -> count++
        :: HAS(set, n) && n == me && itself -> count++
        :: else
        fi
    }
#ifdef WITNESS_IN_S
    if
    :: itself && HAS(set, DATA) -> count++
    :: else
    fi;
#endif
    n = 0
}

// ---- elections ------------------------------------------------------------------------------------------------

inline new_term(me, t) {
    step_down(me);
    term[me] = t;
    voted[me] = false;
    gate[me] = 0;
    granted[me] = 0;
    equal[me] = 0
}

inline step_down(me) {
    if
    :: role[me] == PRIMARY -> forget_acknowledgements(me)
    :: else
    fi;
    role[me] = STANDBY;
    in_force[me] = false;
    ready[me] = false;
    tightening[me] = false;
    target[me] = 0;
    standby_applies(me)
}

// What reached a primary that is none any more cannot matter; keeping it would only multiply states.
inline forget_acknowledgements(me) {
    stored[term[me]] = 0;
    for (n : 0 .. DATA - 1) {
        FLUSHED(term[me], n) = 0
    }
    n = 0
}
#define LISTENS(t) (role[leader_of[t] - 1] == PRIMARY && term[leader_of[t] - 1] == t)

// A standby's PostgreSQL carries the rule of its record, at once or (LAGGING) at some time.
inline standby_applies(me) {
#ifndef LAGGING
    apply_record(me)
#else
    skip
#endif
}
inline apply_record(me) {
    pg_set[me] = SET(me);
    pg_quorum[me] = QUORUM(me)
}

inline stand(me) {
    new_term(me, term[me] + 1);
    voted[me] = true;
    role[me] = CANDIDATE;
    granted[me] = BIT(me);
    equal[me] = BIT(me)
}

// The gate is shut, the position read, term and vote are stored: one step, see election.pml.
#define MAY_VOTE(me, c) \
    (c != me && role[c] == CANDIDATE && (term[c] > term[me] || (term[c] == term[me] && !voted[me])) && \
     (timeline[me] < timeline[c] || (timeline[me] == timeline[c] && lsn[me] <= lsn[c])))
inline give_vote(me, c) {
    new_term(me, term[c]);
    voted[me] = true
}
// The answer reaches the candidate, and with it the voter's configuration if it is newer (I8).
inline vote_arrives(me, c) {
    granted[c] = granted[c] | BIT(me);
    if
    :: IS_DATA(me) && timeline[me] == timeline[c] && lsn[me] == lsn[c] -> equal[c] = equal[c] | BIT(me)
    :: else
    fi;
    if
    :: record[me] > record[c] -> record[c] = record[me]; standby_applies(c)
    :: else
    fi
}

#ifdef FIRST_RECORD_UNSAFE
#define ENOUGH_EQUAL(me, s, q) (q <= SIZE(s))
#else
#define ENOUGH_EQUAL(me, s, q) (q <= SIZE((s & equal[me])))
#endif
#ifdef PRIMARY_OUTSIDE_S
#define WITH_WINNER(me) SET(me)
#else
#define WITH_WINNER(me) (SET(me) | BIT(me))
#endif
// I5: majority of the voters, |S| - w + 1 members of S.  Then the first configuration of the term (I8):
// with the rule that it was shown, and itself in S (q is 0); or with S only those that have answered, and
// w so many (q) of them as have all that it has, since whoever was told of a commit before counts on them.
inline try_to_win(me, q) {
    count_bits(granted[me]);
    if
    :: votes * 2 > VOTES ->
        count = SIZE((granted[me] & SET(me) & SET_MASK));
        if
        :: count + QUORUM(me) > SIZE(SET(me)) && q == 0 -> win(me, WITH_WINNER(me), QUORUM(me))
        :: count + QUORUM(me) > SIZE(SET(me)) && q != 0 ->
            n = (granted[me] & SET(me) & (BIT(DATA) - 1)) | BIT(me);
            if
            :: ENOUGH_EQUAL(me, n, q) -> win(me, n, q)
            :: else
            fi;
            n = 0
        :: else
        fi
    :: else
    fi
}
inline win(me, s, q) {
    set_of[FIRST_OF(term[me])] = s;
    quorum_of[FIRST_OF(term[me])] = q;
    role[me] = PRIMARY;
    granted[me] = 0;
    equal[me] = 0;
    leader_of[term[me]] = me + 1;
    length[term[me]] = lsn[me];
    for (i : 0 .. LSNS - 1) {
        if
        :: i < lsn[me] -> ENTRY(term[me], i) = ENTRY(timeline[me], i)
        :: else
        fi
    }
    for (i : 1 .. TERMS) { // S4: what clients of older primaries were told is here
        if
        :: i < term[me] && answered[i] > 0 ->
            assert(lsn[me] >= answered[i] && ENTRY(term[me], answered[i] - 1) == i)
        :: else
        fi
    }
    i = 0;
    put_record(me, FIRST_OF(term[me]));
#ifdef ACK_BEFORE_OWN_TERM_RECORD
    ready[me] = true
#endif
}

// ---- following, learning ------------------------------------------------------------------------------------------

#define DESCENDS(me, t) (lsn[me] == 0 || (lsn[me] <= length[t] && ENTRY(t, lsn[me] - 1) == timeline[me]))

#define NEWS(me, t) \
    (leader_of[t] != 0 && leader_of[t] != me + 1 && \
     (t > term[me] || (t == term[me] && (role[me] == CANDIDATE || record[me] < newest[t] || \
                                         (IS_DATA(me) && gate[me] != t && DESCENDS(me, t))))))
// A heartbeat of the primary of term t, with its newest configuration.
inline follow(me, t) {
    if
    :: t > term[me] -> new_term(me, t)
    :: else
    fi;
    role[me] = STANDBY;
    granted[me] = 0;
    equal[me] = 0;
    if
    :: record[me] < newest[t] -> record[me] = newest[t]; standby_applies(me)
    :: else
    fi;
    if
    :: LISTENS(t) -> stored[t] = stored[t] | BIT(me)
    :: else
    fi;
    if
    :: IS_DATA(me) && DESCENDS(me, t) ->
        gate[me] = t;
        acknowledge(me)
    :: else
    fi
}

// A refused candidate, or anybody whose vote reply was late, is shown another's configuration.
#define SHOWN(me, from) (role[me] != PRIMARY && record[from] > record[me])
inline learn(me, from) {
    if
    :: TERM_OF(record[from]) > term[me] -> new_term(me, TERM_OF(record[from]))
    :: else
    fi;
    record[me] = record[from];
    standby_applies(me);
    if
    :: TERM_OF(record[me]) == term[me] && record[me] == newest[term[me]] && LISTENS(term[me]) ->
        stored[term[me]] = stored[term[me]] | BIT(me)
    :: else // it will never speak to the older primary again without showing its higher term
    fi
}

inline receive(me) {
    timeline[me] = ENTRY(gate[me], lsn[me]);
    lsn[me]++;
    acknowledge(me)
}
inline acknowledge(me) {
    if
    :: LISTENS(gate[me]) -> FLUSHED(gate[me], me) = lsn[me]
    :: else
    fi
}

// ---- the primary ------------------------------------------------------------------------------------------------------

inline write(me) {
    ENTRY(term[me], lsn[me]) = term[me];
    lsn[me]++;
    length[term[me]] = lsn[me];
    timeline[me] = term[me]
}

// The commit at the place `upto`, counted from 1, is this primary's own and waits for its standbys.
#define MAY_ANSWER(me, upto) \
    (role[me] == PRIMARY && ready[me] && MEET(me) && answered[term[me]] < upto && upto <= lsn[me] && \
     ENTRY(term[me], upto - 1) == term[me])
inline try_to_answer(me, upto) {
    count_flushed(me, pg_set[me], upto, false);
    if
    :: count >= OTHERS(me) ->
        answered[term[me]] = upto;
        for (i : 1 .. TERMS) {
            if
            :: i > term[me] && leader_of[i] != 0 ->
                assert(length[i] >= answered[term[me]] && ENTRY(i, answered[term[me]] - 1) == term[me]) // S4
            :: else
            fi
        }
        i = 0
    :: else
    fi
}

inline put_record(me, v) {
    newest[term[me]] = v; // v may be said in terms of the old record: it is read once
    record[me] = newest[term[me]];
    stored[term[me]] = BIT(me);
    in_force[me] = false
}

inline try_in_force(me) {
    count_bits(stored[term[me]]);
    if
    :: votes * 2 > VOTES ->
        in_force[me] = true;
        ready[me] = true
    :: else
    fi
}

// The last step is complete, and there is room for one more.
#ifdef STEP_NOT_IN_FORCE
#define SETTLED(me) (role[me] == PRIMARY && ready[me] && SAME_RULE(me) && !tightening[me])
#else
#define SETTLED(me) (role[me] == PRIMARY && in_force[me] && SAME_RULE(me) && !tightening[me])
#endif
#define ROOM(me) (record[me] + 1 < FIRST_OF(term[me] + 1))

// Loosen: the record first ...
inline record_first(me, s, q) {
    set_of[record[me] + 1] = s;
    quorum_of[record[me] + 1] = q;
    put_record(me, record[me] + 1)
}
// ... and once it is in force, PostgreSQL.  A new primary, which acknowledges nothing yet, need not wait.
#ifdef STEP_NOT_IN_FORCE
#define MAY_APPLY(me) (role[me] == PRIMARY && !tightening[me] && !SAME_RULE(me))
#else
#define MAY_APPLY(me) (role[me] == PRIMARY && (in_force[me] || !ready[me]) && !tightening[me] && !SAME_RULE(me))
#endif

// Tighten: PostgreSQL first ...
inline postgres_first(me, s, q) {
    pg_set[me] = s;
    pg_quorum[me] = q;
    tightening[me] = true;
    target[me] = lsn[me]
}
// ... and once w members have all that came before, the record.
inline try_to_record(me) {
    count_flushed(me, pg_set[me], target[me], true);
    if
#ifdef NO_CATCH_UP
    :: true ->
#else
    :: count >= pg_quorum[me] ->
#endif
        tightening[me] = false;
        target[me] = 0;
        record_first(me, pg_set[me], pg_quorum[me])
    :: else
    fi
}

// Nothing but the disk survives: term, vote, WAL, configuration, PostgreSQL's rule.
inline crash(me) {
    step_down(me);
    gate[me] = 0;
    granted[me] = 0;
    equal[me] = 0
}

// ---- everything that can happen -------------------------------------------------------------------------------------------

#ifdef S_SHRUNK_IN_RECORD_FIRST
#define SHRINK(me, x) record_first(me, SET(me) & ~BIT(x), QUORUM(me))
#else
#define SHRINK(me, x) postgres_first(me, SET(me) & ~BIT(x), QUORUM(me))
#endif
#define PRIMARY_STEPS(me, x) \
    :: d_step { SETTLED(me) && ROOM(me) && !HAS(SET(me), x) -> record_first(me, SET(me) | BIT(x), QUORUM(me)) } \
    :: d_step { SETTLED(me) && ROOM(me) && HAS(SET(me), x) && x != me && QUORUM(me) < SIZE(SET(me)) -> \
                SHRINK(me, x) }

proctype node(byte me) {
end:do // terms are bounded, so everything may come to rest
    :: d_step { IS_DATA(me) && role[me] != PRIMARY && term[me] < TERMS -> stand(me) }
    :: d_step { role[me] == CANDIDATE -> try_to_win(me, 0) }
#ifndef FIRST_RECORD_KEEPS_RULE
    :: d_step { role[me] == CANDIDATE -> try_to_win(me, 1) }
    :: d_step { role[me] == CANDIDATE -> try_to_win(me, 2) }
#endif
    :: d_step { MAY_VOTE(me, 0) -> give_vote(me, 0); vote_arrives(me, 0) }
    :: d_step { MAY_VOTE(me, 0) -> give_vote(me, 0) }
    :: d_step { MAY_VOTE(me, 1) -> give_vote(me, 1); vote_arrives(me, 1) }
    :: d_step { MAY_VOTE(me, 1) -> give_vote(me, 1) }
    :: d_step { SHOWN(me, (me + 1) % N) -> learn(me, (me + 1) % N) }
#if N > 2
    :: d_step { SHOWN(me, (me + 2) % N) -> learn(me, (me + 2) % N) }
#endif
#if N > 3
    :: d_step { SHOWN(me, (me + 3) % N) -> learn(me, (me + 3) % N) }
#endif
#if DATA > 2
    :: d_step { MAY_VOTE(me, 2) -> give_vote(me, 2); vote_arrives(me, 2) }
    :: d_step { MAY_VOTE(me, 2) -> give_vote(me, 2) }
#endif
    :: d_step { NEWS(me, 1) -> follow(me, 1) }
    :: d_step { NEWS(me, 2) -> follow(me, 2) }
#if TERMS > 2
    :: d_step { NEWS(me, 3) -> follow(me, 3) }
#endif
    :: d_step { gate[me] != 0 && lsn[me] < length[gate[me]] -> receive(me) }
    :: d_step { role[me] == PRIMARY && lsn[me] < LSNS -> write(me) }
    :: d_step { MAY_ANSWER(me, 1) -> try_to_answer(me, 1) }
#if LSNS > 1
    :: d_step { MAY_ANSWER(me, 2) -> try_to_answer(me, 2) }
#endif
    :: d_step { role[me] == PRIMARY && !in_force[me] -> try_in_force(me) }
    :: d_step { MAY_APPLY(me) -> apply_record(me) }
#ifdef LAGGING
    :: d_step { IS_DATA(me) && role[me] == STANDBY && !SAME_RULE(me) -> apply_record(me) }
#endif
    :: d_step { tightening[me] && in_force[me] && ROOM(me) -> try_to_record(me) }
#ifdef W_LOWERED_IN_POSTGRES_FIRST
    :: d_step { SETTLED(me) && ROOM(me) && QUORUM(me) > 1 -> postgres_first(me, SET(me), QUORUM(me) - 1) }
#else
    :: d_step { SETTLED(me) && ROOM(me) && QUORUM(me) > 1 -> record_first(me, SET(me), QUORUM(me) - 1) }
#endif
    :: d_step { SETTLED(me) && ROOM(me) && QUORUM(me) < SIZE(SET(me)) ->
                postgres_first(me, SET(me), QUORUM(me) + 1) }
    PRIMARY_STEPS(me, 0)
    PRIMARY_STEPS(me, 1)
#if DATA > 2
    PRIMARY_STEPS(me, 2)
#endif
#ifdef TWO_AT_ONCE // w and S in one record, the second half of both in PostgreSQL
    :: d_step { SETTLED(me) && ROOM(me) && SET(me) != BIT(DATA) - 1 ->
                record_first(me, BIT(DATA) - 1, QUORUM(me) + DATA - SIZE(SET(me))) }
#endif
    :: d_step { role[me] != STANDBY || gate[me] != 0 -> crash(me) }
    od
}

// Node 0 is the primary of term 1; any rule with it in S is in force; nobody has any WAL.
init {
    byte s = 1, q = 1;
    atomic {
        do
        :: s < SET_MASK -> s = s + 2 // node 0 is bit 0
        :: break
        od;
        do
        :: q < SIZE(s) -> q++
        :: break
        od;
        skip;
        d_step {
            set_of[FIRST_OF(1)] = s;
            quorum_of[FIRST_OF(1)] = q;
            for (n : 0 .. N - 1) {
                pg_set[n] = s;
                pg_quorum[n] = q
            }
            n = 0;
            s = 0;
            q = 0;
            role[0] = PRIMARY;
            voted[0] = true;
            leader_of[1] = 1;
            newest[1] = FIRST_OF(1);
            stored[1] = BIT(N) - 1;
            in_force[0] = true;
            ready[0] = true
        }
        run node(0);
        run node(1);
#if N > 2
        run node(2);
#endif
#if N > 3
        run node(3);
#endif
    }
}

// Planted bugs, and what each leads to (all: an acknowledged commit is missing on the next primary):
//   W_LOWERED_IN_POSTGRES_FIRST  commits count that the old election quorum need not meet
//   NO_CATCH_UP                  the smaller election quorum does not meet older commits
//   ACK_BEFORE_OWN_TERM_RECORD   a primary acknowledges by a rule that the next one need not be shown
//   TWO_AT_ONCE                  S grows and w rises in one record; with RULES_NOT_COMPARED, since the
//                                comparison of I9 alone would fence such a primary
//   STEP_NOT_IN_FORCE            the second half, and the next step, do not wait for the majority
//   S_SHRUNK_IN_RECORD_FIRST     commits were answered by the help of who leaves S
//   FIRST_RECORD_UNSAFE          the first record of a term lets members elect that lack older commits
//   WITNESS_IN_S                 a member without WAL counts among the w that have everything
//   PRIMARY_OUTSIDE_S            a winner that is no member of S stays outside, and PostgreSQL counts it
//                                among the w all the same

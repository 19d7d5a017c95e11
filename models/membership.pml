// SPDX-License-Identifier: PostgreSQL
//
// Changes of the voters, one at a time, with several would-be primaries: rules I1 and I8 of
// docs/protocol.md.  Decides whether two primaries that do not know of each other can both have a
// majority, or a configuration that was in force can be forgotten (S12).  WAL, sync rule and time are
// other models' subject: here every position is equal and every promise has run out.
//
// How things are put:
//  * A message once sent may arrive at any later time, several times, or never.
//  * A configuration is one number, (term, index) in order; its voters are kept beside it.  A node uses
//    the newest one that it has stored, from the moment of storing.
//  * Everything a node must remember is on disk (election.pml looks into that), so a crash only ends
//    a primary's or a candidate's role.
//
// Planted bugs (-D...): see the end of this file.

#define N 4
#ifndef TERMS
#define TERMS 3 // term 1 exists at the start
#endif
#ifndef VERSIONS
#define VERSIONS 3 // configurations of one term, the first of the term included
#endif

#define BIT(n) (1 << (n))
#define HAS(set, n) ((set) >> (n) & 1)
#define COUNT(set) (((set) & 1) + ((set) >> 1 & 1) + ((set) >> 2 & 1) + ((set) >> 3 & 1))
#define FIRST_OF(t) ((t) * VERSIONS)
#define TERM_OF(v) ((v) / VERSIONS)

#define STANDBY 0
#define CANDIDATE 1
#define PRIMARY 2

// ---- the nodes ---------------------------------------------------------------------------------------------

byte term[N] = 1;
bool voted[N];
byte role[N];
byte record[N] = FIRST_OF(1); // newest configuration stored
byte granted[N]; // votes that have reached this candidate
bool in_force[N]; // of a primary: its newest record is

// ---- what has been recorded and sent --------------------------------------------------------------------------

byte voters_of[(TERMS + 1) * VERSIONS];
byte leader_of[TERMS + 1]; // node + 1
byte base[TERMS + 1];      // configuration that the winner had been shown
byte newest[TERMS + 1];    // configuration of that term's primary
byte stored[TERMS + 1];    // who has told that primary to have stored it
byte forced[TERMS + 1];    // newest one of that term that was in force; 0: none

hidden byte i;

#define VOTERS(me) voters_of[record[me]]

// I8: only votes and answers of the configuration's own voters count.
#ifdef REMOVED_STILL_COUNTED
#define OURS(set, voters) (set)
#else
#define OURS(set, voters) ((set) & (voters))
#endif
#define MAJORITY(set, voters) (COUNT(OURS(set, voters)) * 2 > COUNT(voters))

// ---- elections ---------------------------------------------------------------------------------------------------

inline new_term(me, t) {
    step_down(me);
    term[me] = t;
    voted[me] = false
}

inline step_down(me) {
    if
    :: role[me] == PRIMARY -> stored[term[me]] = 0 // answers to one who is no primary change nothing
    :: else
    fi;
    role[me] = STANDBY;
    granted[me] = 0;
    in_force[me] = false
}

#define MAY_STAND(me) (role[me] != PRIMARY && term[me] < TERMS && HAS(VOTERS(me), me))
inline stand(me) {
    new_term(me, term[me] + 1);
    voted[me] = true;
    role[me] = CANDIDATE;
    granted[me] = BIT(me)
}

// The voter goes by its own configuration, unless the candidate has a newer one, by which it will count.
// (The code also refuses candidates that are no members: fewer votes than here.)
#define MAY_VOTE(me, c) \
    (role[c] == CANDIDATE && (term[c] > term[me] || (term[c] == term[me] && !voted[me])) && \
     (HAS(VOTERS(me), me) || record[c] > record[me]))
inline give_vote(me, c) {
    new_term(me, term[c]);
    voted[me] = true
}
// The answer reaches the candidate, and with it the voter's configuration if it is newer.
inline vote_arrives(me, c) {
    granted[c] = granted[c] | BIT(me);
    if
    :: record[me] > record[c] ->
        record[c] = record[me];
        check_still_candidate(c)
    :: else
    fi
}

// Whoever is shown a record of the term it stands for has lost: somebody else won that term.
inline check_still_candidate(c) {
#ifndef CANDIDATE_STAYS
    if
    :: role[c] == CANDIDATE && TERM_OF(record[c]) == term[c] -> step_down(c)
    :: else
    fi
#else
    skip
#endif
}

#define WINS(me) (role[me] == CANDIDATE && MAJORITY(granted[me], VOTERS(me)))
inline win(me) {
    assert(leader_of[term[me]] == 0); // S1
    for (i : 1 .. TERMS) {
        if
        :: i < term[me] -> assert(record[me] >= forced[i]) // S12: nothing that was in force is forgotten
        :: else
        fi
    }
    i = 0;
    role[me] = PRIMARY;
    granted[me] = 0;
    leader_of[term[me]] = me + 1;
    base[term[me]] = record[me];
#ifdef NO_OWN_TERM_RECORD
    newest[term[me]] = record[me];
    in_force[me] = true
#else
    voters_of[FIRST_OF(term[me])] = VOTERS(me);
    put_record(me, FIRST_OF(term[me]))
#endif
}

// ---- following, learning ---------------------------------------------------------------------------------------------

#define LISTENS(t) (role[leader_of[t] - 1] == PRIMARY && term[leader_of[t] - 1] == t)

#define NEWS(me, t) \
    (leader_of[t] != 0 && leader_of[t] != me + 1 && \
     (t > term[me] || (t == term[me] && (role[me] == CANDIDATE || record[me] < newest[t] || \
                                         (!HAS(stored[t], me) && LISTENS(t))))))
// A heartbeat of the primary of term t, with its newest configuration, and the answer to it.
inline follow(me, t) {
    if
    :: t > term[me] -> new_term(me, t)
    :: else -> step_down(me)
    fi;
    if
    :: record[me] < newest[t] -> record[me] = newest[t]
    :: else
    fi;
    tell(me)
}

inline tell(me) {
    if
    :: leader_of[term[me]] != 0 && record[me] == newest[term[me]] ->
        if
        :: LISTENS(term[me]) -> stored[term[me]] = stored[term[me]] | BIT(me)
        :: else
        fi
    :: else
    fi
}

// Refusals, and answers that come late, show another's configuration too.
#define SHOWN(me, from) (role[me] != PRIMARY && record[from] > record[me])
inline learn(me, from) {
    if
    :: TERM_OF(record[from]) > term[me] -> new_term(me, TERM_OF(record[from]))
    :: else
    fi;
    record[me] = record[from];
    check_still_candidate(me);
    tell(me)
}

// ---- the primary ----------------------------------------------------------------------------------------------------------

inline put_record(me, v) {
    newest[term[me]] = v; // v may be said in terms of the old record: it is read once
    record[me] = newest[term[me]];
    stored[term[me]] = BIT(me);
    in_force[me] = false
}

#define NOW_IN_FORCE(me) (role[me] == PRIMARY && !in_force[me] && MAJORITY(stored[term[me]], VOTERS(me)))
inline note_in_force(me) {
    in_force[me] = true;
    forced[term[me]] = record[me];
    for (i : 1 .. TERMS) {
        if
        :: i > term[me] && leader_of[i] != 0 -> assert(base[i] >= record[me]) // S12, the other order
        :: else
        fi
    }
    i = 0
}

#ifdef NO_OWN_TERM_RECORD
#define NEXT(me) (FIRST_OF(term[me]) + (record[me] >= FIRST_OF(term[me])) * (record[me] - FIRST_OF(term[me]) + 1))
#else
#define NEXT(me) (record[me] + 1)
#endif
#ifdef LAST_TERM_RESTS // its changes meet no later election
#define MAY_CHANGE(me) (role[me] == PRIMARY && in_force[me] && term[me] < TERMS && NEXT(me) < FIRST_OF(term[me] + 1))
#else
#define MAY_CHANGE(me) (role[me] == PRIMARY && in_force[me] && NEXT(me) < FIRST_OF(term[me] + 1))
#endif

inline change(me, voters) {
    voters_of[NEXT(me)] = voters;
    put_record(me, NEXT(me))
}

// ---- everything that can happen ----------------------------------------------------------------------------------------------

#define WITH_PEER(me, peer) \
    :: d_step { MAY_VOTE(me, peer) -> give_vote(me, peer); vote_arrives(me, peer) } \
    :: d_step { MAY_VOTE(me, peer) -> give_vote(me, peer) } \
    :: d_step { SHOWN(me, peer) -> learn(me, peer) } \
    :: d_step { MAY_CHANGE(me) -> change(me, VOTERS(me) ^ BIT(peer)) } // a voter less, or one more

proctype node(byte me) {
end:do // terms are bounded, so everything may come to rest
    :: d_step { MAY_STAND(me) -> stand(me) }
    :: d_step { WINS(me) -> win(me) }
    WITH_PEER(me, (me + 1) % N)
    WITH_PEER(me, (me + 2) % N)
    WITH_PEER(me, (me + 3) % N)
    :: d_step { NEWS(me, 1) -> follow(me, 1) }
    :: d_step { NEWS(me, 2) -> follow(me, 2) }
#if TERMS > 2
    :: d_step { NEWS(me, 3) -> follow(me, 3) }
#endif
#if TERMS > 3
    :: d_step { NEWS(me, 4) -> follow(me, 4) }
#endif
    :: d_step { NOW_IN_FORCE(me) -> note_in_force(me) }
#ifdef TWO_AT_ONCE
    :: d_step { MAY_CHANGE(me) -> change(me, VOTERS(me) ^ BIT((me + 1) % N) ^ BIT((me + 2) % N)) }
#endif
    :: d_step { role[me] != STANDBY -> step_down(me) } // a crash
    od
}

// Node 0 is the primary of term 1.  There are three voters, and a learner; or all four vote.
init {
    atomic {
        if
        :: voters_of[FIRST_OF(1)] = 7
        :: voters_of[FIRST_OF(1)] = 15
        fi;
        d_step {
            role[0] = PRIMARY;
            voted[0] = true;
            leader_of[1] = 1;
            base[1] = FIRST_OF(1);
            newest[1] = FIRST_OF(1);
            forced[1] = FIRST_OF(1);
            stored[1] = 15;
            in_force[0] = true
        }
        run node(0);
        run node(1);
        run node(2);
        run node(3)
    }
}

// Planted bugs, and what each leads to:
//   TWO_AT_ONCE            old and new majority need not meet: a configuration in force is forgotten
//   NO_OWN_TERM_RECORD     two primaries change the same configuration without seeing each other's change
//   CANDIDATE_STAYS        a candidate goes on counting by the configuration of the one who beat it:
//                          two primaries of one term
//   REMOVED_STILL_COUNTED  a node that no longer votes makes a majority

// SPDX-License-Identifier: PostgreSQL
//
// Addresses as people write them; what is not clearly an address is refused.
#include "net/addresses.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;

TEST(Addresses, NamesPortsAndIpv6AreTakenApart) {
    const auto peers = parse_peers(" alpha:7000, [::1]:7001 ,beta,, [fe80::2] ", 7432);
    ASSERT_TRUE(peers);
    EXPECT_EQ(*peers, (std::vector<Endpoint>{{"alpha", 7000}, {"::1", 7001}, {"beta", 7432}, {"fe80::2", 7432}}));
    EXPECT_EQ(parse_peers("", 7432), std::vector<Endpoint>{});
}

TEST(Addresses, WhatIsNotClearlyAnAddressIsRefused) {
    for (const char *text : {"alpha:", "alpha:0", "alpha:65536", "alpha:x", "[::1", "[::1]7001", "al pha", "a/b", ":7000"})
        EXPECT_FALSE(parse_peers(text, 7432)) << text;
}

TEST(Addresses, AListKeepsItsPartsWithoutBlanks) {
    EXPECT_EQ(split_list(" a , b,,c "), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_TRUE(split_list(" , ").empty());
}

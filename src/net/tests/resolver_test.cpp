// SPDX-License-Identifier: PostgreSQL
//
// A name server that hangs must not hang us.
#include "net/resolver.hpp"

#include <gtest/gtest.h>

#include <future>
#include <thread>

using namespace pg_ha;

namespace {

// Asks again until there is an address, for at most ten seconds.
const boost::asio::ip::tcp::endpoint *wait_for_address(Resolver &resolver) {
    for (int i = 0; i < 1000; ++i) {
        if (const auto *found = resolver.next(false))
            return found;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return nullptr;
}

} // namespace

TEST(Resolver, NumericAddressesAndLocalhostNeedNoLookup) {
    const auto never = [](const std::string &) -> Lookup { throw std::logic_error("looked up"); };
    Resolver numeric({"192.0.2.7", 7432}, never), local({"localhost", 7432}, never);
    ASSERT_NE(numeric.next(false), nullptr);
    EXPECT_EQ(numeric.next(true)->address().to_string(), "192.0.2.7");
    ASSERT_NE(local.next(false), nullptr);
    EXPECT_EQ(local.next(false)->address().to_string(), "127.0.0.1");
}

TEST(Resolver, ALookupThatHangsDoesNotBlockTheCaller) {
    std::promise<void> release;
    std::shared_future<void> released = release.get_future().share();
    Resolver resolver({"db1.example", 7432}, [released](const std::string &) {
        released.wait();
        return Lookup{{boost::asio::ip::make_address("192.0.2.1")}, ""};
    });
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(resolver.next(false), nullptr);
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
    EXPECT_TRUE(resolver.error().empty()) << "not known yet is no error";
    release.set_value();
    const auto *found = wait_for_address(resolver);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->address().to_string(), "192.0.2.1");
    EXPECT_EQ(found->port(), 7432);
}

TEST(Resolver, AFailedLookupKeepsTheOldAddressAndSaysWhy) {
    Resolver resolver({"db1.example", 7432}, [](const std::string &) { return Lookup{{}, "unknown name"}; });
    for (int i = 0; i < 1000 && resolver.error().empty(); ++i) {
        EXPECT_EQ(resolver.next(false), nullptr);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(resolver.error(), "unknown name");
}

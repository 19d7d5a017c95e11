// SPDX-License-Identifier: PostgreSQL
//
// The facade: one io_context, the caller's descriptors and its one deadline, and a Network while the
// port is open.  Deadlines use a timerfd on CLOCK_BOOTTIME, because Asio's timers stand still while
// the machine is suspended and a lease must not.
#include "runtime.hpp"

#include "network.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <sys/timerfd.h>

#include <cerrno>
#include <ctime>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace pg_ha {

namespace asio = boost::asio;

namespace {

using Descriptor = asio::posix::stream_descriptor;

Instant boot_time() {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return Instant(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

// Calls ready() whenever the descriptor is readable.
class Watch : public std::enable_shared_from_this<Watch> {
public:
    Watch(asio::io_context &io, int fd, std::function<void()> ready) : descriptor_(io, fd), ready_(std::move(ready)) {}

    void start() {
        descriptor_.async_wait(Descriptor::wait_read, [self = shared_from_this()](const boost::system::error_code &error) {
            if (error || self->stopped_)
                return;
            // Armed again also when ready() throws; Asio notices input that ready() left.
            struct Rearm {
                Watch &watch;
                ~Rearm() {
                    if (!watch.stopped_)
                        watch.start();
                }
            } const rearm{*self};
            self->ready_();
        });
    }
    void stop() {
        stopped_ = true;
        descriptor_.release(); // the descriptor is the caller's
    }

private:
    Descriptor descriptor_;
    std::function<void()> ready_;
    bool stopped_ = false;
};

} // namespace

struct Runtime::Impl {
    explicit Impl(NetCallbacks given) : callbacks(std::move(given)), work(asio::make_work_guard(io)) {
        timer_fd = ::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (timer_fd < 0)
            throw std::system_error(errno, std::generic_category(), "could not create a timer");
    }
    ~Impl() {
        for (const std::shared_ptr<Watch> &watch : watches)
            watch->stop();
        ::close(timer_fd);
    }

    void watch(int fd, std::function<void()> ready) {
        watches.push_back(std::make_shared<Watch>(io, fd, std::move(ready)));
        watches.back()->start();
    }

    void set_timer(Instant when) {
        itimerspec spec{}; // all zero: disarmed
        const auto since_boot = std::max<Duration>(when.time_since_epoch(), Duration(1));
        if (when != never) {
            spec.it_value.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(since_boot).count();
            spec.it_value.tv_nsec = (since_boot % std::chrono::seconds(1)).count();
        }
        if (::timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &spec, nullptr) != 0)
            throw std::system_error(errno, std::generic_category(), "could not set a timer");
        timer_set_to = when;
    }

    void timer_fired() {
        std::uint64_t expirations = 0;
        if (::read(timer_fd, &expirations, sizeof(expirations)) < 0)
            return; // set anew meanwhile
        timer_set_to = never;
        if (!expired)
            return;
        if (boot_time() < deadline) {
            set_timer(deadline);
            return;
        }
        const std::function<void()> run = std::exchange(expired, nullptr);
        run();
    }

    // The network may be closed by one of its own callbacks while it flushes.
    void flush_dirty() {
        if (const std::shared_ptr<Network> current = network)
            current->flush_dirty();
    }

    NetCallbacks callbacks;
    asio::io_context io{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    asio::executor_work_guard<asio::io_context::executor_type> work;
    std::vector<std::shared_ptr<Watch>> watches;
    int timer_fd = -1;
    Instant timer_set_to = never; // what the kernel knows; never later than `deadline`
    Instant deadline = never;
    std::function<void()> expired;
    std::shared_ptr<Network> network;
};

Runtime::Runtime(NetCallbacks callbacks) : impl_(std::make_unique<Impl>(std::move(callbacks))) {
    impl_->watch(impl_->timer_fd, [impl = impl_.get()] { impl->timer_fired(); });
}

Runtime::~Runtime() = default;

void Runtime::open(const NetOptions &options) {
    impl_->network.reset();
    impl_->network = std::make_shared<Network>(impl_->io, impl_->callbacks, options);
    impl_->network->start();
}

void Runtime::close() { impl_->network.reset(); }

bool Runtime::is_open() const { return impl_->network != nullptr; }

void Runtime::watch(int fd, std::function<void()> ready) { impl_->watch(fd, std::move(ready)); }

void Runtime::arm(Instant when, std::function<void()> expired) {
    impl_->deadline = when;
    impl_->expired = std::move(expired);
    // A deadline that moves away (every heartbeat does that) costs no system call: the timer fires
    // once too early and is then set again.
    if (when < impl_->timer_set_to)
        impl_->set_timer(when);
}

void Runtime::run_one() {
    impl_->flush_dirty();
    impl_->io.run_one();
    impl_->flush_dirty();
}

void Runtime::flush(Duration limit) {
    const auto deadline = SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(limit);
    for (;;) {
        impl_->flush_dirty();
        if (!impl_->network || !impl_->network->has_unsent())
            return;
        const auto left = deadline - SteadyClock::now();
        if (left <= SteadyClock::duration::zero())
            return;
        impl_->io.run_one_for(left);
    }
}

Instant Runtime::now() { return boot_time(); }

void Runtime::send(const Message &message) {
    if (impl_->network)
        impl_->network->send(message);
}

void Runtime::set_peers(const std::vector<Member> &members) {
    if (impl_->network)
        impl_->network->set_peers(members);
}

} // namespace pg_ha

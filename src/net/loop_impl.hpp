#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>

#include "net/loop.hpp"

// What the sources of this folder see of Asio's loop.
namespace stargate::net {

struct Loop::Impl {
    Impl() : io{1}, work{io.get_executor()}, alarm{io} {}

    void arm();

    boost::asio::io_context io;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work;
    boost::asio::steady_timer alarm;
    std::map<std::pair<std::int64_t, Timer>, std::function<void()>> timers;  // by when they are due
    std::map<Timer, std::int64_t> due;
    std::int64_t armed_us = INT64_MAX;
    Timer last_timer = 0;
};

}  // namespace stargate::net

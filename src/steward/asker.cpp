#include "steward/asker.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "net/message.hpp"

namespace stargate::steward {

namespace {
constexpr std::size_t longest_body = 4096;
}

/// Lives until it is answered or forgotten: what comes later finds nobody to tell.
struct Asker::Question {
    std::function<void(int, const std::string&)> then;
    std::shared_ptr<net::Call> call;
    net::Loop::Timer timer = 0;
    int status = 0;
    std::string body;
};

Asker::Asker(net::Loop& loop, const std::string& host, std::int32_t port) : loop_{loop} {
    net::ClientSetting setting;
    setting.host = host;
    setting.port = static_cast<std::uint16_t>(port);
    client_ = std::make_unique<net::Client>(loop, std::move(setting));
}

Asker::~Asker() { forget(); }

void Asker::forget() {
    const auto question = std::exchange(question_, nullptr);
    if (!question) return;
    loop_.cancel(question->timer);
    question->then = nullptr;
    if (const auto call = std::exchange(question->call, nullptr)) call->cancel();
}

void Asker::ask(const char* method, const char* target, Duration patience,
                std::function<void(int status, const std::string& body)> then) {
    forget();
    question_ = std::make_shared<Question>();
    question_->then = std::move(then);
    const std::weak_ptr<Question> question = question_;
    const auto over = [this, question](std::string failure) {
        loop_.post([this, question, failure = std::move(failure)] {
            const auto asked = question.lock();
            if (!asked || !asked->then) return;
            const auto told = std::move(asked->then);
            const auto status = failure.empty() ? asked->status : 0;
            const auto body = failure.empty() ? std::move(asked->body) : failure;
            forget();  // what else it says is of no interest
            told(status, body);
        });
    };
    net::CallEvents events;
    events.on_head = [question](const net::ResponseHead& head) {
        if (const auto asked = question.lock()) asked->status = head.status;
    };
    events.on_body = [question](std::string_view part) {
        const auto asked = question.lock();
        if (asked) asked->body.append(part.substr(0, longest_body - std::min(longest_body, asked->body.size())));
    };
    events.on_end = [over] { over(""); };
    events.on_failure = [over](const net::CallFailure& failure) { over(failure.why); };
    question_->timer = loop_.after(patience, [over] { over("it says nothing"); });
    question_->call = client_->start(net::request_bytes(method, target, client_->host(), {}, ""), std::move(events));
}

void Asker::ask_health(Duration patience, std::function<void(const Health&)> then) {
    const char* target = lacks_health_ ? "/v1/models" : "/health";
    ask("GET", target, patience, [this, target, patience, then = std::move(then)](int status, const std::string& said) {
        if (!lacks_health_ && has_no_such_route(status)) {
            lacks_health_ = true;
            return ask_health(patience, then);
        }
        lacks_health_ = lacks_health_ && is_good(status);
        then({target, status, status == 0 ? said : std::string{}});
    });
}

}  // namespace stargate::steward

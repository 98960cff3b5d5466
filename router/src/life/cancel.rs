//! A withdrawal: the canceled result is sent; then whoever works on the task is told to stop, and whoever waits that it
//! ended. A task that has ended stays so, and nobody is told anything.

use tidegate_schemas::code::Code;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, ReplyToken, TaskId};
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::subject;

use super::context::Context;
use super::{Action, Step, Stored, Telling, outgoing};

pub(super) fn begin(
    message: &Stored,
    tenant: Name,
    agent: Name,
    task: TaskId,
    context: &Context<'_>,
) -> (Vec<Telling>, Step) {
    let error = outgoing::error_of(Code::Canceled, "the producer withdrew the task");
    let notice = Telling {
        subject: subject::notice_cancel(&tenant, task),
        headers: Headers::new(),
        payload: bytes::Bytes::new(),
    };
    let told = outgoing::state(&tenant, &agent, task, State::Canceled, None);
    let base = outgoing::unread(message, task, &agent, context);
    // Only the producer knows here where it waits; the worker that has the task in hand answers as well.
    let token = message.headers.get(header::REPLY).and_then(|text| ReplyToken::new(text).ok());
    let result = TaskResult::ended(tenant.clone(), agent.clone(), task, State::Canceled, error)
        .timed(message.time, context.now);
    let sent = outgoing::result(&result, base, None, "cancel");
    let reply = outgoing::reply(&sent, &tenant, &agent, token.as_ref());
    let tell = [notice, told].into_iter().chain(reply).collect();
    (tell, Step::new(Action::Send(sent)))
}

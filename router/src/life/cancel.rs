//! A withdrawal: the canceled result is sent; whoever works on the task is told to stop. A task that has ended stays so.

use tidegate_schemas::code::Code;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, TaskId};
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
) -> Step {
    let error = outgoing::error_of(Code::Canceled, "the producer withdrew the task");
    let notice = Telling {
        subject: subject::notice_cancel(&tenant, task),
        headers: Headers::new(),
        payload: bytes::Bytes::new(),
    };
    let told = outgoing::state(&tenant, &agent, task, State::Canceled, None);
    let base = outgoing::unread(&message.position, task, &agent);
    let result =
        TaskResult::ended(tenant, agent, task, State::Canceled, error).timed(message.time, context.now);
    Step::new(Action::Send(outgoing::result(&result, base, None, "cancel"))).telling(vec![notice, told])
}

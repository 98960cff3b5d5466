//! Cells with one guard taken away. Each is a negative control: a check that does not notice it would notice nothing.

use crate::check::Invariant;

/// Which guard is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A message is acknowledged when it comes, and not when what it causes is stored.
    AckFirst,
    /// The stream of results takes a second result of a task.
    ResultsTakeTwo,
    /// The streams know no id again, so a claim that was used looks new.
    NoDedupe,
    /// The broker acknowledges before it has written, and the power fails.
    LazySync,
    /// Nobody ends a task whose time is over.
    NoDeadlines,
    /// The worker believes every ticket.
    TicketBelieved,
    /// The bytes leave before the attempt is on record.
    AttemptAfterSend,
    /// A failed attempt is sent again without a claim of its own.
    SentTwice,
    /// A ticket lets its payload be sent a thousand times.
    EndlessAttempts,
    /// The router forgets which destinations failed.
    FallbackForgets,
    /// The router takes local work that came back for cloud work.
    FallbackWidens,
    /// What a provider refused is taken for a fault of the provider.
    RefusedElsewhere,
    /// The router does not ask whether record and clock are well.
    GateOpen,
    /// Nobody looks at what is switched off.
    SwitchesIgnored,
    /// The worker sends what a budget or a breaker keeps back.
    BudgetIgnored,
    /// A message names as its cause one that is not there yet.
    EffectFirst,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::AckFirst,
        Self::ResultsTakeTwo,
        Self::NoDedupe,
        Self::LazySync,
        Self::NoDeadlines,
        Self::TicketBelieved,
        Self::AttemptAfterSend,
        Self::SentTwice,
        Self::EndlessAttempts,
        Self::FallbackForgets,
        Self::FallbackWidens,
        Self::RefusedElsewhere,
        Self::GateOpen,
        Self::SwitchesIgnored,
        Self::BudgetIgnored,
        Self::EffectFirst,
    ];

    /// The check that must notice it.
    #[must_use]
    pub fn noticed_by(self) -> Invariant {
        match self {
            Self::AckFirst => Invariant::Liveness,
            Self::ResultsTakeTwo | Self::LazySync | Self::NoDeadlines => Invariant::Conservation,
            Self::NoDedupe | Self::TicketBelieved | Self::AttemptAfterSend | Self::SentTwice => {
                Invariant::Permission
            }
            Self::EndlessAttempts => Invariant::BoundedAttempts,
            Self::FallbackForgets | Self::FallbackWidens | Self::RefusedElsewhere => Invariant::Narrowing,
            Self::GateOpen | Self::SwitchesIgnored | Self::BudgetIgnored => Invariant::FailClosed,
            Self::EffectFirst => Invariant::CausesFirst,
        }
    }
}

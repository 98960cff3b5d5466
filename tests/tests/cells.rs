//! All stories in one program: each by itself would link the whole harness again.

mod backtest;
mod backup;
mod boundary;
mod budgets;
mod codes;
mod commands;
mod corrupt;
mod credentials;
mod documents;
mod drain;
mod erase;
mod faults;
mod flag;
mod line;
mod operations;
mod prompts;
mod redact;
mod release;
mod replay;
mod report;
mod retain;
mod scan;
mod secrets;
mod startup;
mod stories;

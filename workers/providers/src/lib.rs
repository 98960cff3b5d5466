//! The providers: cloud model APIs over HTTP.

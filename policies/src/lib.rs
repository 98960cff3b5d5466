//! The judge: taxonomy, Cedar policies, destinations and cases.

//! Tenants: defaults, quotas, policy.

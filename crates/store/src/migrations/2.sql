-- What one profile cost today, without a look at any other row: the status line asks for it after each turn.
CREATE INDEX attempts_by_cost ON attempts (profile, at_ms, est_cost_micro_usd) WHERE est_cost_micro_usd > 0;

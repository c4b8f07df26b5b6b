"""The names by which findings can be silenced: those of the rules in `findings`, which stands above the spec."""

FINDINGS = (
    "cut_at_equal_ages", "lost_together", "lost_at_any_age", "server_errors", "provider_errors", "not_let_in",
    "rate_limited", "requests_run_out_first", "limit_at_once", "connections_refused", "gave_up", "slow_failures",
    "ttft_rising", "errors_rising", "pace_falling", "answer_at_once", "lumps", "compression_merges", "database_slow",
    "step_slow", "slower_under_load", "uneven_instances", "no_keep_alive", "keep_alive_cut", "connects_again",
    "far_away", "not_cached", "cached", "provider_slow", "app_adds", "faster_target", "cheaper_target",
    "memory_grows", "left_by_requests", "memory_not_given_back", "outside_heap", "memory_limit_near",
    "connections_kept", "gauge_rises", "restart_seen", "cpu_busy", "collector_sawtooth", "crashed", "sheds",
    "collapses", "scale_out", "slows_within",
)  # fmt: skip
"""A test holds them equal to the rules there are."""

"""Which test shows what follows from each fault of training, search and serving: the one page that names them all."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SHOWN_BY = {
    1: {  # SIGKILL of a training worker
        "integration/test_lanes.py": ["test_a_killed_worker_and_a_killed_proxy_cost_no_trial_and_no_step"],
        "integration/test_lane_of_two.py": [
            "test_fault_1_whichever_worker_is_killed_the_group_restarts_and_the_losses_are_an_unharmed_trials"
        ],
    },
    2: {  # a node goes away
        "integration/test_lanes_nodes.py": ["test_trials_of_a_lost_node_go_on_elsewhere_and_others_do_not_notice"],
    },
    4: {  # SIGKILL of the driver
        "unit/search/study/test_killed_driver.py": [
            "test_fault_4_wherever_a_driver_dies_the_study_ends_with_the_asked_trials"
        ],
        "integration/test_killed_sweep.py": ["test_fault_4_a_sweep_stopped_and_killed_at_every_kind_of_moment"],
    },
    5: {  # Ctrl-C once, twice
        "integration/test_killed_sweep.py": [
            "test_fault_4_a_sweep_stopped_and_killed_at_every_kind_of_moment",
            "test_fault_5_a_second_ctrl_c_stops_at_once",
        ],
    },
    6: {  # a trial is stopped while it runs
        "integration/test_lanes.py": [
            "test_a_trial_that_is_stopped_while_it_runs_makes_room_at_once_on_the_same_worker"
        ],
    },
    7: {  # a full disk
        "unit/training/lane/test_lane_faults.py": [
            "test_a_full_disk_ends_the_trial_with_path_and_bytes_and_the_last_checkpoint_loads",
            "test_a_disk_without_room_is_found_before_anything_is_written",
            "test_a_disk_that_is_full_from_the_start_ends_the_trial_and_not_the_lane",
        ],
    },
    8: {  # killed between a file and its manifest, or its line in the curve
        "unit/training/lane/test_lane_faults.py": [
            "test_a_damaged_checkpoint_is_passed_over_for_the_one_before",
            "test_a_checkpoint_without_its_line_in_the_curve_gets_it_back",
        ],
    },
    9: {  # a flipped byte, a truncated adapter
        "unit/training/lane/test_lane_faults.py": ["test_a_damaged_checkpoint_is_passed_over_for_the_one_before"],
        "unit/registry/test_registry_store.py": ["test_a_flipped_byte_is_found"],
        "unit/registry/test_registry_adapter.py": ["test_truncated_weights_are_refused"],
        "unit/serving/models/test_catalog.py": ["test_a_changed_file_is_never_given_to_the_engine"],
        "integration/bucket/test_remote_registry.py": ["test_a_flipped_byte_in_the_bucket_is_refused"],
        "e2e/test_serve_real.py": ["test_base_and_adapters_are_served_by_name"],
    },
    10: {  # NaN, an explosion
        "unit/training/test_guards.py": ["test_a_loss_that_is_no_number_ends_the_trial_at_once"],
        "unit/training/lane/test_lane_faults.py": [
            "test_a_diverged_trial_ends_within_one_report_and_the_next_one_is_unharmed"
        ],
        "unit/search/study/test_killed_driver.py": ["test_fault_10_a_reported_nan_is_a_failure"],
        "integration/test_sweep.py": [  # on lanes, isolated
            "test_a_sweep_ranks_its_trials_and_a_diverged_one_is_a_failure_that_stops_nothing",
            "test_when_every_trial_fails_the_causes_are_listed",
        ],
    },
    11: {  # out of memory
        "unit/training/test_guards.py": ["test_an_allocators_error_says_what_to_lower"],
        "unit/training/test_main_memory.py": [
            "test_fault_11_the_limit_of_the_group_counts_and_not_the_machines_memory"
        ],
        "unit/training/lane/test_lane_faults.py": ["test_a_trial_that_finds_no_memory_ends_alone"],
        "unit/execution/lanes/test_lane_losses.py": [
            "test_fault_11_a_trial_that_alone_took_a_node_out_of_memory_is_not_tried_again",
            "test_fault_11_of_trials_that_shared_the_memory_each_is_tried_alone",
        ],
        "unit/search/study/test_killed_driver.py": [
            "test_fault_11_a_trial_that_ran_out_of_memory_is_never_handed_out_again"
        ],
    },
    12: {  # every trial fails
        "unit/search/results/test_causes.py": ["test_fault_12_every_trial_fails_and_the_causes_are_counted"],
        "unit/promotion/test_promote.py": ["test_fault_12_a_run_whose_trials_all_failed_promotes_nothing"],
        "integration/test_sweep.py": ["test_when_every_trial_fails_the_causes_are_listed"],
    },
    15: {  # two sweeps on one storage, a locked one
        "unit/search/study/test_storage.py": [
            "test_fault_15_two_sweeps_at_once_on_one_storage_are_two_studies",
            "test_fault_15_a_study_of_the_same_name_belongs_to_the_run_that_made_it",
            "test_fault_15_a_locked_database_is_waited_for",
            "test_fault_15_a_database_that_stays_locked_is_one_clear_line",
        ],
        "integration/test_postgresql.py": ["test_fault_15_two_sweeps_at_once_create_the_tables_together"],
    },
    16: {  # resume with a changed space, changed data
        "unit/search/study/test_resume.py": [
            "test_another_search_is_refused_with_the_difference",
            "test_other_data_or_training_is_refused_with_the_difference",
        ],
        "unit/search/study/test_extend.py": ["test_an_extension_that_was_refused_leaves_no_trace"],
    },
    18: {  # the clock jumps
        "unit/training/test_steady_clock.py": [
            "test_fault_18_the_steady_clock_takes_no_part_in_a_jump",
            "test_fault_18_a_trial_during_which_the_clock_jumps",
        ],
        "unit/reporting/test_compare_studies.py": ["test_fault_18_a_clock_that_jumps_an_hour"],
    },
    26: {  # hostile names
        "unit/registry/test_registry_store.py": [
            "test_a_hostile_name_is_refused_and_nothing_is_touched",
            "test_a_hostile_alias_is_refused_and_nothing_is_touched",
        ],
        "unit/cli/test_canary_verbs.py": ["test_fault_26_no_verb_takes_a_hostile_name"],
    },
    27: {  # a pickle, another base, a truncated config
        "unit/promotion/test_gates.py": [
            "test_fault_27_a_broken_adapter_is_refused_at_promotion",
            "test_fault_27_an_adapter_of_another_base_is_refused_at_promotion",
        ],
    },
    28: {  # no key, a wrong key, a host that others reach
        "unit/serving/gateway/test_guard.py": [
            "test_any_other_key_is_401_in_openai_shape",
            "test_without_a_key_only_this_machine_is_answered",
        ],
        "unit/serving/test_serve_settings.py": ["test_serving_to_others_without_a_key_starts_nothing"],
        "e2e/test_serve_real.py": ["test_base_and_adapters_are_served_by_name"],
    },
    29: {  # unknown model, bad JSON, large bodies, n, max_tokens
        "unit/serving/gateway/test_guard.py": [
            "test_a_large_body_is_413_before_it_is_parsed",
            "test_a_request_that_asks_for_too_much_is_400",
        ],
        "unit/serving/models/test_catalog.py": ["test_an_unknown_model_is_refused_in_a_short_line"],
        "e2e/test_serve_real.py": ["test_base_and_adapters_are_served_by_name"],
    },
    30: {"e2e/test_serve_load.py": ["test_a_killed_replica_is_replaced"]},
    31: {  # promotion under load
        "integration/ingress/test_traffic.py": ["test_many_at_once_while_the_alias_moves"],
        "e2e/test_serve_load.py": ["test_no_request_fails_while_versions_are_promoted"],
    },
    32: {  # secrets
        "unit/serving/gateway/test_guard.py": ["test_what_is_refused_leaves_a_record_without_the_key_or_the_body"],
        "unit/test_tracking.py": ["test_one_process_is_told_no_secret"],
        "unit/training/isolated/test_spec_and_deepspeed.py": ["test_no_password_reaches_a_trials_files"],
        "integration/test_postgresql.py": ["test_a_sweep_keeps_its_study_on_the_server_and_no_password_in_its_files"],
        "integration/test_door.py": ["test_the_door_of_a_real_serve"],
    },
    33: {  # a directory that somebody else made
        "unit/test_ownership.py": [
            "test_fault_33_a_run_that_somebody_else_made_is_refused_without_trust",
            "test_fault_33_every_way_to_restore_a_run_asks",
        ],
    },
    35: {  # an outage
        "unit/execution/lanes/recovery/test_lost_lanes.py": ["test_fault_35_an_outage_of_all_lanes_ends_no_trial"],
        "unit/search/trials/test_lanes_kept.py": ["test_fault_35_a_sweep_without_lanes_leaves_its_trials_open"],
        "integration/test_lanes_outage.py": ["test_fault_35_a_sweep_ends_open_where_lanes_stay_away"],
    },
    36: {  # nodes are taken away in waves
        "unit/execution/lanes/test_lane_losses.py": [
            "test_fault_36_a_preempted_node_is_charged_to_no_trial_and_no_lane"
        ],
    },
    37: {  # shared storage answers nothing
        "integration/ingress/test_hung_registry.py": [
            "test_a_mount_that_hangs_stops_neither_streams_nor_requests_nor_health"
        ],
        "integration/ingress/test_champion_not_served.py": [
            "test_while_a_champion_is_loaded_the_one_of_before_answers"
        ],
        "unit/serving/models/test_followed_registry.py": [
            "test_while_the_storage_hangs_the_last_state_answers_and_says_its_age"
        ],
        "unit/serving/records/test_log_queue.py": ["test_a_disk_that_hangs_costs_lines_and_no_time"],
        "unit/serving/gateway/test_keys.py": ["test_no_request_touches_the_file"],
    },
    39: {  # a winner that the endpoint has no room for
        "integration/ingress/test_champion_not_served.py": [
            "test_a_champion_that_the_endpoint_has_no_room_for_leaves_the_one_of_before"
        ],
        "unit/serving/models/test_catalog.py": ["test_the_greatest_rank_leaves_room_for_the_next_winner"],
    },
    40: {  # two promotions, or one and the end of a canary, at once
        "unit/promotion/test_at_once.py": [
            "test_fault_40_a_winner_that_was_judged_against_an_old_champion_is_judged_again",
            "test_fault_40_the_canary_ends_only_against_the_champion_of_its_challengers_comparison",
        ],
    },
    41: {  # a proxy before an endpoint without a key
        "unit/serving/gateway/test_keyless_door.py": [
            "test_nginx_as_it_is_by_default_is_refused",
            "test_a_header_that_a_proxy_adds_is_refused",
        ],
    },
    42: {  # another client's request id, a flood of feedback
        "unit/serving/gateway/test_feedback_keys.py": [
            "test_feedback_is_joined_with_the_request_of_the_same_key_and_id",
            "test_an_answer_takes_a_few_feedbacks_and_the_last_counts",
        ],
    },
    43: {  # the log's disk is full or slow, a flood of refused requests
        "unit/serving/records/test_log_queue.py": [
            "test_a_disk_that_hangs_costs_lines_and_no_time",
            "test_lines_that_the_disk_refuses_are_counted",
            "test_the_door_answers_on_while_its_log_hangs",
        ],
    },
    51: {  # a private name of another package is gone
        "unit/execution/local_ray/test_fallbacks.py": [
            "test_the_line_says_which_name_is_gone_and_what_is_lost_and_comes_once",
            "test_ray_starts_all_its_processes",
            "test_each_worker_is_a_new_process",
            "test_lanes_are_started_by_rays_own_trainer",
        ],
        "unit/test_private_names.py": ["test_private_names_are_what_they_were"],
        "integration/test_plain_ray.py": ["test_a_sweep_without_any_change_to_ray_ends_with_its_trials"],
    },
}


def _tests(path: Path) -> dict[str, str]:
    """Name of each test -> its name, docstring and its module's, where the fault's number stands."""
    module = ast.parse(path.read_text())
    about = ast.get_docstring(module) or ""
    return {
        node.name: f"{node.name} {ast.get_docstring(node) or ''} {about}"
        for node in module.body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("fault", SHOWN_BY)
def test_each_fault_has_the_tests_that_are_named_and_they_name_it(fault: int) -> None:
    for file, names in SHOWN_BY[fault].items():
        there = _tests(TESTS / file)
        for name in names:
            (text,) = [text for test, text in there.items() if test.startswith(name)]
            numbers = {
                int(number)
                for words in re.findall(r"faults?[_ ]([\d, and]+)", text.lower())
                for number in re.findall(r"\d+", words)
            }
            assert fault in numbers, f"{file}: {name} does not say that it shows fault {fault}"

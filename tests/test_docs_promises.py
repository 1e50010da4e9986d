"""Each promise in the first table of the page on reliability has tests that prove it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"

PROOFS = {
    "the worker dies, or the try fails": (
        """operators/test_attempts: a_try_that_died_while_it_waited_has_its_jobs_found_by_the_next
        operators/test_attempts: the_next_try_waits_for_jobs_that_still_run
        faults/test_crashes: a_task_that_is_killed_at_a_step_ends_well
        faults/test_stack: a_worker_that_dies_when_a_part_is_written_costs_no_job""",
        """operators/test_train: a_retry_attaches_to_the_job_that_runs
        operators/test_classifier_train: a_retry_attaches_to_the_job_that_runs
        operators/test_memory_rag_build: a_retry_attaches_to_the_build_that_runs
        operators/test_jobs: a_retry_attaches_to_the_job_that_it_has_resumed
        faults/test_crashes: a_task_that_is_killed_at_a_step_ends_well""",
    ),
    "a try dies, or the answer is lost, while it submits": (
        """operators/test_attempts: a_submission_without_an_answer_says_that_it_may_have_begun
        operators/test_attempts: a_submission_without_an_answer_is_not_repeated_where_that_is_forbidden
        faults/test_crashes: a_submission_whose_connection_breaks_is_not_repeated_unasked""",
        """operators/test_train: a_job_whose_id_was_never_told_is_found_in_the_platforms_list
        operators/test_train: a_job_that_nothing_marks_is_left_to_a_person
        operators/test_classifier_train: a_job_whose_id_was_lost_is_found_in_the_projects_list
        operators/test_memory_rag_build: an_answer_that_was_lost_is_not_followed_by_a_second_build""",
    ),
    "the platform refuses the submission": (
        "operators/test_attempts: a_refused_submission_leaves_no_doubt",
        """operators/test_memory_rag_build: a_refusal_leaves_nothing_behind
        operators/test_classifier_train: a_refusal_leaves_nothing_behind""",
    ),
    "a job ends badly on the platform": (
        """operators/test_failures: rows_of_a_job_that_the_platform_ended_are_sent_again
        operators/test_failures: rows_that_failed_once_are_sent_again_alone""",
        """operators/test_train: a_job_that_did_not_end_well_fails_the_task_and_a_retry_trains_anew
        operators/test_train: a_job_that_failed_or_timed_out_is_resumed
        operators/test_train: resumes_are_counted_over_all_tries""",
    ),
    "the platform no longer knows a job": (
        """operators/test_attempts: a_vanished_job_is_sent_again_once
        operators/test_attempts: a_vanished_job_fails_the_task_where_sending_again_is_forbidden
        operators/test_attempts: a_young_job_that_is_not_known_yet_is_waited_for""",
        """operators/test_train: a_job_that_vanishes_is_lost
        faults/platform/test_platform_lists: a_job_that_vanished_after_its_first_minute_is_submitted_once_more""",
    ),
    "the platform is away, slow, or restarts": (
        """operators/test_failures: an_outage_while_jobs_run_is_sat_out
        operators/test_restart: a_platform_that_is_killed_and_started_again_has_every_row_once
        faults/platform/test_platform_faults: each_fault_of_the_platform_ends_as_the_table_says""",
        "faults/platform/test_platform_faults: each_fault_of_the_platform_ends_as_the_table_says",
    ),
    "the key is refused while waiting": (
        """jobs/test_watch: a_key_that_was_rotated_while_the_job_ran_is_read_anew
        jobs/test_polling: a_refused_key_gets_two_more_tries_because_keys_are_rotated
        operators/test_attempts: a_job_that_cannot_be_looked_at_fails_the_task_and_is_kept""",
        """jobs/test_watch: a_key_that_stays_refused_loses_the_job
        triggers/test_job: a_refused_key_is_lost_but_not_vanished
        faults/platform/test_platform_faults: each_fault_of_the_platform_ends_as_the_table_says""",
    ),
    "timeout passes": (
        """operators/test_attempts: a_timeout_fails_the_task_and_the_next_try_takes_the_jobs_up
        operators/test_attempts: a_timeout_ends_a_direct_run_and_keeps_its_chunks""",
        """operators/test_policies: a_timeout_leaves_the_job_to_the_retry_that_follows
        operators/test_policies: the_last_tries_timeout_cancels_the_job_and_a_clear_resumes_it
        operators/test_policies: on_timeout_leave_cancels_nothing""",
    ),
    "the triggerer stops or dies": (
        """triggers/test_job: a_trigger_is_made_anew_from_what_is_kept_of_it
        triggers/test_job: a_trigger_that_starts_after_its_deadline_reports_what_has_ended
        operators/test_attempts: the_deadline_counts_from_the_beginning_of_the_try_over_all_its_deferrals
        faults/test_stack: triggerer_scheduler_and_platform_that_are_killed_cost_no_try""",
        """triggers/test_job: a_trigger_that_starts_after_its_deadline_looks_once_at_what_still_runs
        faults/test_crashes: a_task_that_is_killed_at_a_step_ends_well""",
    ),
    "the task succeeded and is cleared": (
        "operators/test_attempts: a_finished_run_that_is_cleared_sends_nothing_and_returns_the_same",
        """operators/test_train: a_run_that_is_repeated_takes_the_model_that_there_is
        operators/test_policies: force_new_after_a_run_without_it_submits
        operators/test_policies: a_job_that_was_handed_over_and_came_to_nothing_is_submitted_anew""",
    ),
    "a task with force_new=True is retried, or cleared": (
        "",
        """operators/test_policies: force_new_submits_once_for_all_retries_and_again_for_each_clear
        operators/test_promises: a_dataset_that_is_forced_is_uploaded_once_for_all_retries_and_again_for_each_clear
        operators/test_promises: an_index_that_is_forced_is_built_once_for_all_retries_and_again_for_each_clear""",
    ),
    "the task failed with too many failed rows": (
        "operators/test_failures: more_failed_rows_than_allowed_fail_the_task_and_leave_the_results",
        "",
    ),
    "the Dag runs again": (
        """operators/test_whose_results: another_runs_folder_is_left_alone
        operators/test_whose_results: another_runs_folder_is_replaced_where_that_is_asked_for""",
        """operators/test_promises: another_run_and_another_mapped_task_have_jobs_of_their_own
        operators/test_upload_dataset: another_task_or_run_has_a_dataset_of_its_own""",
    ),
    "arguments or the input changed between two tries": (
        """operators/test_attempts: other_settings_between_tries_are_refused
        operators/test_attempts: a_wrong_model_that_is_put_right_needs_no_other_folder
        operators/test_whose_results: an_input_that_changed_between_tries_is_refused
        operators/test_whose_results: a_task_may_replace_its_own_results_with_other_settings""",
        """operators/test_train: other_arguments_cancel_the_job_or_fail_the_task
        operators/test_policies: changed_arguments_after_a_kill_are_submitted_though_there_is_nothing_to_cancel""",
    ),
    "two live tries of one task": (
        """runs/test_races: no_chunk_is_sent_twice_by_processes_that_race_for_a_folder
        operators/test_attempts: two_tries_at_once_send_each_chunk_once
        operators/test_attempts: a_process_that_was_overtaken_leaves_the_folder_to_the_newer_one""",
        "runs/test_races: processes_that_race_for_the_record_of_a_job_submit_one",
    ),
    "two tasks work in one folder": (
        """operators/test_whose_results: another_runs_folder_is_left_alone
        operators/test_batch_inference: each_task_of_a_run_has_its_own_results""",
        "",
    ),
    "a person marks or clears a deferred task": (
        """operators/test_waiting: the_trigger_of_a_killed_task_says_that_its_batches_go_on
        faults/test_stack: a_deferred_task_that_is_cleared_attaches_to_its_batch_jobs""",
        """operators/test_train: killing_the_deferred_task_cancels_the_job_where_that_is_wanted
        faults/test_stack: a_deferred_tuning_that_is_cleared_is_cancelled_and_begun_anew""",
    ),
    "a deferred task is marked or cleared before": (
        "operators/test_attempts: the_next_try_waits_for_jobs_that_still_run",
        "operators/test_promises: a_clear_before_the_trigger_has_started_attaches",
    ),
    "a task that waits in its worker is killed": (
        """operators/test_killed: a_killed_task_sends_nothing_more_and_the_next_try_sends_it_once
        operators/test_waiting: a_killed_task_says_that_its_batches_go_on""",
        """operators/test_train: killing_the_task_cancels_the_job
        operators/test_tuning_dags: a_task_that_waits_in_its_worker_ends_at_its_execution_timeout_and_its_job_is_cancelled
        operators/test_classifier_train: a_killed_worker_cancels_the_job_unless_told_otherwise""",
    ),
    "a try attaches to a job that the kill before": (
        "",
        """operators/test_policies: a_kill_in_any_order_leaves_the_new_try_with_a_job_of_its_own
        operators/test_policies: a_job_that_a_person_cancels_later_fails_the_task
        operators/test_policies: a_kill_while_a_resumed_job_is_waited_for_leaves_a_job_of_its_own""",
    ),
    "a task is killed while the answer to its submission": (
        "operators/test_promises: a_kill_while_a_chunk_is_submitted_keeps_its_job",
        "operators/test_policies: a_kill_while_the_submission_is_on_its_way_cancels_the_job",
    ),
    "the clock is set back or forward": (
        """jobs/test_polling: a_clock_that_was_set_back_neither_loses_a_job_nor_looks_at_it_all_the_time
        jobs/test_polling: a_clock_that_was_set_forward_ends_the_wait_but_not_before_a_look
        operators/test_promises: a_clock_that_jumps_between_tries_sends_no_chunk_again
        rows/test_folder: a_temporary_file_that_is_being_written_stays_however_old_the_clock_says_it_is""",
        "operators/test_policies: a_clock_that_jumps_between_tries_costs_no_second_job",
    ),
    "the record of the submission is damaged": (
        """operators/test_promises: a_damaged_ledger_sends_nothing_and_is_left_as_it_is
        rows/test_ledger: every_torn_ledger_is_refused""",
        "operators/test_policies: a_record_that_cannot_be_read_submits_nothing_unless_forced",
    ),
    "the place of the record cannot be reached": (
        "bad_input/test_buckets: a_bucket_that_refuses_is_named_before_anything_is_sent",
        """bad_input/test_buckets: a_bucket_that_refuses_is_named_before_anything_is_sent
        bad_input/test_buckets: a_bucket_for_what_a_job_comes_to_is_tried_before_the_job_is_paid_for
        operators/test_policies: a_store_that_cannot_be_reached_fails_before_anything_is_submitted
        operators/test_policies: an_id_that_cannot_be_recorded_is_in_the_log""",
    ),
    "an argument, a row or the connection is wrong": (
        """bad_input/test_wrong_arguments: a_wrong_argument_is_refused_before_anything_is_sent
        bad_input/test_broken_files: a_broken_file_is_refused_before_anything_is_sent""",
        "bad_input/test_connections: a_broken_connection_is_refused_by_name",
    ),
}
"""How a row of the table begins; the tests of what it says of rows in chunks, and of one job: file and test, a line each."""


def promises():
    """The rows of the table: what happens, and whether it says something of rows in chunks, and of one job."""
    _, after = PAGE.read_text(encoding="utf-8").split("| what happens |")
    for line in after.split("\n\n")[0].splitlines()[2:]:
        what, *columns = [
            cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")
        ]
        yield what.replace("*", "").replace("`", ""), [bool(column) for column in columns]


PROMISES = dict(promises())


@pytest.mark.parametrize("what", PROMISES)
def test_each_row_of_the_table_is_proved(what):
    (proof,) = [tests for begins, tests in PROOFS.items() if what.startswith(begins)]
    assert [bool(tests) for tests in proof] == PROMISES[what]


def test_the_table_still_has_each_row_that_is_proved():
    assert [begins for begins in PROOFS if not any(what.startswith(begins) for what in PROMISES)] == []


def test_the_tests_that_prove_it_are_there():
    named = {line.strip() for proof in PROOFS.values() for tests in proof for line in tests.splitlines()}
    there = {
        f"{path}: {node.name.removeprefix('test_')}"
        for path in {line.partition(":")[0] for line in named}
        for node in ast.walk(ast.parse((TESTS / f"{path}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert sorted(named - there) == []

"""The sweep: on a Temporal Schedule, so that it runs as long as Temporal does."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import SweepReport
    from activities.sweep import Sweep
    from workflows import policies


@workflow.defn(name="Sweep")
class SweepOpenTopUps:
    """One sweep over everything that is open."""

    @workflow.run
    async def run(self) -> SweepReport:
        """Settle what lost its workflow, start what never had one, and report both."""
        report: SweepReport = await workflow.execute_activity_method(
            Sweep.sweep, summary="Settle top-ups whose workflow is gone", **policies.sweeping()
        )
        return report

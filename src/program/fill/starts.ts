/** @file When the plan has each action of a device begin: what the frozen work is woven by. */
import type { PipelineTimeline } from '../../plan/pipeline/types.ts';
import type { Plan } from '../../plan/types.ts';
import type { Program } from '../types.ts';

/** Planned starts of the actions that each device of `program` runs, in its order, ms. `timeline`: one pipeline of `plan`, rank by rank. */
export function plannedStarts(program: Program, plan: Plan, timeline: PipelineTimeline): (device: number) => readonly number[] {
	return (device) => {
		const rank = plan.stages.find(({ devices }) => devices.includes(device))!.rank;
		const starts = new Map(timeline.spans[rank]!.map(({ stage, kind, micro, start }) => [`${stage}${kind}${micro}`, start]));
		const { iteration } = program.devices.find((d) => d.device === device)!;
		return iteration.flatMap((i) =>
			i.op === 'run' && i.action ? [starts.get(`${i.action.stage}${i.action.kind}${i.action.micro}`)!] : [],
		);
	};
}

/** @file A plan's schedule for torch.distributed.pipelining. */
import { parseSchedule } from '../schedules/text.ts';
import { formatForTorch } from '../schedules/torch.ts';
import type { Plan } from '../types.ts';

/**
 * One line per rank of comma-separated actions (`0F0,0F1,0B0`): the CSV that `_PipelineScheduleRuntime._load_csv(filename, format="compute_only")` of
 * torch/distributed/pipelining/schedules.py reads and lowers, adding sends and receives. Stage i lies on rank i mod R; in folded placements on rank
 * min(i, 2R-1-i), which PyTorch calls the style "v". Throws an input error for two backbones: the runtime knows one chain of stages.
 */
export function torchSchedule({ rows, stages, ranks }: Plan): string {
	return formatForTorch({
		ranks,
		stages: stages.map(({ rank, backbone }, i) => (stages[i + 1]?.backbone === backbone ? { rank, next: i + 1 } : { rank })),
		rows: parseSchedule(rows.map((row) => `${row}\n`).join('')),
	});
}

/** @file A plan's schedule for torch.distributed.pipelining. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Plan } from '../types.ts';

/**
 * One line per rank of comma-separated actions (`0F0,0F1,0B0`): the CSV that `_PipelineScheduleRuntime._load_csv(filename, format="compute_only")` of
 * torch/distributed/pipelining/schedules.py reads and lowers, adding sends and receives. Stage i lies on rank i mod R; in folded placements on rank
 * min(i, 2R-1-i), which PyTorch calls the style "v". Throws a config error for two backbones: the runtime knows one chain of stages.
 */
export function torchSchedule(plan: Plan): string {
	const backbones = [...new Set(plan.stages.map((stage) => stage.backbone))];
	if (backbones.length > 1) {
		throw new DiffusionPipeError('config', 'torch.distributed.pipelining cannot run this plan: it knows one chain of stages', {
			place: 'plan',
			found: `backbones ${backbones.join(' and ')}`,
			hint: 'plan each backbone apart',
		});
	}
	return plan.rows.map((row) => `${row}\n`).join('');
}

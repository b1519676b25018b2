/** @file Other trainers by name, each with what it takes of a plan. Adding one is one file and one line here. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import type { Profile } from '../profile/types.ts';
import type { Plan } from '../types.ts';
import { deepSpeedConfig } from './deepspeed.ts';
import { diffusionPipeConfig } from './diffusion-pipe.ts';
import { torchSchedule } from './torch.ts';

/** What a trainer is given, and what to do with it. */
export interface PlanFormat {
	readonly summary: string;
	/** The text. Throws a config error when the trainer cannot run such a plan. `profile` gives layers their names. */
	write(plan: Plan, profile?: Profile): string;
}

export const planFormats: Readonly<Record<string, PlanFormat>> = {
	torch: { summary: "the schedule's rows as torch.distributed.pipelining loads them (CSV)", write: torchSchedule },
	'diffusion-pipe': { summary: 'keys for a config of tdrussell/diffusion-pipe (TOML)', write: diffusionPipeConfig },
	deepspeed: { summary: 'batch keys and a divided PipelineModule for DeepSpeed (Python)', write: deepSpeedConfig },
};

/** The format called `name`. Throws a usage error naming the nearest one; `place` says where the name stands. */
export function planFormat(name: string, place = 'trainer'): PlanFormat {
	const format = Object.hasOwn(planFormats, name) ? planFormats[name] : undefined;
	if (format) return format;
	const names = Object.keys(planFormats);
	const near = nearestName(name, names);
	throw new DiffusionPipeError('usage', 'there is no such trainer', {
		place,
		expected: names.join(', '),
		found: name,
		...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
	});
}

/** @file Published training jobs by name, whose work is kept as tables: no model is traced to plan them. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { cdmImagenet } from './data/cdm-imagenet.ts';
import { cdmLsun } from './data/cdm-lsun.ts';
import { controlnet } from './data/controlnet.ts';
import { ditXl } from './data/dit-xl.ts';
import { flux } from './data/flux.ts';
import { sd3 } from './data/sd3.ts';
import { sd21 } from './data/sd21.ts';
import { sdxl } from './data/sdxl.ts';
import type { JobName } from './jobs/index.ts';
import { readWork } from './table.ts';
import type { JobWork } from './work.ts';

export type { JobName } from './jobs/index.ts';

/** What each job is, and the table of its work. */
export const namedJobs: Readonly<Record<JobName, { readonly summary: string; readonly table: string }>> = {
	sd21: { summary: 'Stable Diffusion 2.1, 512 pixels: U-Net; frozen image encoder and OpenCLIP-H', table: sd21 },
	sdxl: { summary: 'SDXL, 1024 pixels: U-Net; frozen image encoder, CLIP-L and OpenCLIP-bigG', table: sdxl },
	controlnet: {
		summary: 'ControlNet on Stable Diffusion 1.5, 512 pixels: copy and locked decoder; frozen image encoder, CLIP-L and locked encoder',
		table: controlnet,
	},
	'cdm-lsun': { summary: 'Cascade for LSUN: 64 pixels and 64 to 128, trained together; nothing frozen', table: cdmLsun },
	'cdm-imagenet': { summary: 'Cascade for ImageNet: 64 pixels and 64 to 256, trained together; nothing frozen', table: cdmImagenet },
	'dit-xl': { summary: 'DiT-XL/2, ImageNet at 256 pixels: transformer; frozen image encoder', table: ditXl },
	sd3: { summary: 'Stable Diffusion 3 medium, 1024 pixels: transformer; frozen image encoder, CLIP-L, bigG and T5-XXL', table: sd3 },
	flux: { summary: 'Flux.1-dev, 1024 pixels: transformer; frozen image encoder, CLIP-L and T5-XXL', table: flux },
};

/** The work of the job called `name`. Throws a usage error naming the nearest one. */
export function namedJob(name: string): JobWork {
	if (Object.hasOwn(namedJobs, name)) return readWork(namedJobs[name as JobName].table);
	const names = Object.keys(namedJobs);
	const near = nearestName(name, names);
	throw new DiffusionPipeError('usage', `job ${name} is not known`, {
		place: 'job',
		expected: names.join(', '),
		...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
	});
}

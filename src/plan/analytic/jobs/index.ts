/** @file The published jobs by name, as chains. Adding one is a function, a line here, and running scripts/make-jobs.mjs. */
import type { JobChains } from '../chain-work.ts';
import { cdmImageNet, cdmLSUN } from './cascades.ts';
import { controlnet } from './controlnet.ts';
import { sd21, sdxl } from './stable-diffusion.ts';
import { ditXL, flux, sd3 } from './transformers.ts';

/** Builds the chains of a job; nothing is traced yet. */
export const jobChains = {
	sd21,
	sdxl,
	controlnet,
	'cdm-lsun': cdmLSUN,
	'cdm-imagenet': cdmImageNet,
	'dit-xl': ditXL,
	sd3,
	flux,
} as const satisfies Readonly<Record<string, () => JobChains>>;

export type JobName = keyof typeof jobChains;

/** @file The pipelines by the class names of `model_index.json`. Adding one is one file and one line here. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { textStatesKey, trainedTextStates } from '../../train/pipeline-index.ts';
import type { PipelineClass, PipelineFolder } from '../pipeline.ts';
import { classConditional } from './class-conditional.ts';
import { flux } from './flux.ts';
import { pixartAlpha, pixartSigma } from './pixart.ts';
import { stableDiffusion } from './stable-diffusion.ts';
import { stableDiffusion3 } from './stable-diffusion-3.ts';
import { stableDiffusionXL } from './stable-diffusion-xl.ts';

export const pipelineClasses: Readonly<Record<string, PipelineClass>> = {
	DiTPipeline: classConditional,
	DDPMPipeline: classConditional,
	DDIMPipeline: classConditional,
	LDMPipeline: classConditional,
	StableDiffusionPipeline: stableDiffusion,
	StableDiffusionControlNetPipeline: stableDiffusion,
	StableDiffusionXLPipeline: stableDiffusionXL,
	StableDiffusionXLControlNetPipeline: stableDiffusionXL,
	PixArtAlphaPipeline: pixartAlpha,
	PixArtSigmaPipeline: pixartSigma,
	StableDiffusion3Pipeline: stableDiffusion3,
	FluxPipeline: flux,
};

/** The class of a pipeline folder. Throws an input error naming the classes we have. */
export function pipelineClass({ folder, index }: PipelineFolder): PipelineClass {
	// What is trained here from captions is told otherwise than the published models of its class.
	if (index.options[textStatesKey] === trainedTextStates) return stableDiffusion;
	const found = Object.hasOwn(pipelineClasses, index.className) ? pipelineClasses[index.className] : undefined;
	if (found) return found;
	throw new DiffusionPipeError('input', `pipelines of class ${index.className} are not supported`, {
		place: join(folder, 'model_index.json'),
		expected: Object.keys(pipelineClasses).join(', '),
		found: index.className,
	});
}

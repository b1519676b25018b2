/** @file The frozen part of a cascade that runs in its bubbles: the text encoder, which both models may take from. */
import { openRunParts, type RunParts } from '../filled/parts.ts';
import { packagedPath } from '../frozen.ts';
import { backboneNames, type CascadeConfig } from './config.ts';
import type { CascadeModels } from './models.ts';

/** The text encoder as a frozen part of the program, and which inputs of both models it gives. The caller closes it. */
export async function cascadeRunParts({ base }: CascadeConfig, { texts, parts }: CascadeModels): Promise<RunParts> {
	const folder = await packagedPath(base.text_encoder.path, 'text_encoder.path');
	const [, height, width] = parts.super_resolution.chain.inputs.x0!.shape as [number, number, number];
	const pooled = backboneNames.some((name) => texts[name].includes('pooled_projections'));
	const own = await openRunParts('', folder, { height, width }, pooled);
	const given = backboneNames.flatMap((name) => texts[name].map((input) => [`${name}.${input}`, own.given[input]!] as const));
	return { ...own, given: Object.fromEntries(given) };
}

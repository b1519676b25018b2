/** @file What the config of a cascade trains and runs frozen, as chains: what profiles are made from. No weights are read. */

import type { JobChains } from '../../plan/analytic/chain-work.ts';
import { openTextEncoder } from '../frozen-parts.ts';
import { textChain } from '../job-chains.ts';
import { backboneNames, type CascadeConfig } from './config.ts';
import { createCascadeModels } from './models.ts';

/** The job of `config`: both models between their objectives' layers, and the text encoder where there is one. Throws what `createCascadeModels` throws. */
export async function cascadeJob(config: CascadeConfig, name: string): Promise<JobChains> {
	const text = await openTextEncoder(config.base, () => {});
	await text?.close();
	const { parts } = createCascadeModels(config, text);
	const frozen = text ? [{ name: 'text_encoder', chain: await textChain(text.folder) }] : [];
	return { name, backbones: backboneNames.map((each) => ({ name: each, chain: parts[each].chain, losses: ['loss'] })), frozen };
}

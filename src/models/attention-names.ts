/** @file Self-attention's parameters as checkpoints from before diffusers 0.16 spell them: the autoencoder of Stable Diffusion 1, the first DDPMs. */
import type { Chain } from '../nn/chain.ts';
import { renameParameters } from '../nn/rename.ts';

const oldNames: Readonly<Record<string, string>> = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
/** Self-attention between positions stands right in `attentions.<i>`; a transformer's, deeper, always had its present names. */
const present = /^(.*\battentions\.\d+)\.(to_q|to_k|to_v|to_out\.0)\.(weight|bias)$/;
const old = /\battentions\.\d+\.(query|key|value|proj_attn)\.(weight|bias)$/;

/** `chain` with the names that a checkpoint has: the old spelling where `weightNames` hold it, else as it is. */
export function asSpelledIn(chain: Chain, weightNames: Iterable<string>): Chain {
	if (![...weightNames].some((name) => old.test(name))) return chain;
	return renameParameters(chain, (name) => name.replace(present, (_, path, part, kind) => `${path}.${oldNames[part]}.${kind}`));
}

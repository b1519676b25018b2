/** @file The block types of U-Net configs by name: which attention they have and how they end. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';
import type { BlockAttention, Resampling } from './unet-path.ts';

export interface BlockType {
	readonly attention: BlockAttention['kind'];
	/** `chosen`: as `downsample_type` or `upsample_type` says. */
	readonly resampling: Resampling | 'chosen';
}

export const downBlockTypes: Readonly<Record<string, BlockType>> = {
	DownBlock2D: { attention: 'none', resampling: 'conv' },
	CrossAttnDownBlock2D: { attention: 'cross', resampling: 'conv' },
	AttnDownBlock2D: { attention: 'self', resampling: 'chosen' },
	ResnetDownsampleBlock2D: { attention: 'none', resampling: 'resnet' },
};

export const upBlockTypes: Readonly<Record<string, BlockType>> = {
	UpBlock2D: { attention: 'none', resampling: 'conv' },
	CrossAttnUpBlock2D: { attention: 'cross', resampling: 'conv' },
	AttnUpBlock2D: { attention: 'self', resampling: 'chosen' },
	ResnetUpsampleBlock2D: { attention: 'none', resampling: 'resnet' },
};

/** Options `down_block_types` and the like: one type per block, `count` of them. Throws a config error naming the type and the nearest known one. */
export function blockTypes(
	option: string,
	names: readonly string[],
	known: Readonly<Record<string, BlockType>>,
	count: number,
	place: string,
): readonly BlockType[] {
	if (names.length !== count) {
		throw new DiffusionPipeError('config', `option ${option} does not fit block_out_channels`, {
			place,
			expected: `${count} types`,
			found: JSON.stringify(names),
		});
	}
	return names.map((name) => {
		// The first checkpoints wrote this prefix.
		const plain = name.replace(/^UNetRes/, '');
		if (Object.hasOwn(known, plain)) return known[plain]!;
		const near = nearestName(plain, Object.keys(known));
		throw new DiffusionPipeError('config', `block type ${name} is not known`, {
			place: `${place}, option ${option}`,
			expected: Object.keys(known).join(', '),
			...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
		});
	});
}

/** Self-attention with heads `headDim` wide, null for one head. Throws a config error when they do not fill the block. */
export function selfAttention(channels: number, headDim: number | null, groups: number | null, place: string): BlockAttention {
	const heads = channels / (headDim ?? channels);
	if (!Number.isInteger(heads) || heads < 1) {
		throw new DiffusionPipeError('config', 'option attention_head_dim does not fit', {
			place,
			expected: `the width of a head, a divisor of the block's ${channels} channels`,
			found: String(headDim),
		});
	}
	return { kind: 'self', heads, groups };
}

/** @file The parts of the published `tokenizer.json` format that tokenizers are described with here. */

/** A token matched in the text before the model splits it. */
export interface AddedToken {
	readonly id: number;
	readonly content: string;
	readonly special: boolean;
	/** Looked for in the normalised text rather than in the text as given. */
	readonly normalized: boolean;
	readonly lstrip: boolean;
	readonly rstrip: boolean;
	readonly single_word: boolean;
}

/** A step of the pipeline, told apart by `type`. */
export interface Component {
	readonly type: string;
	readonly [option: string]: unknown;
}

/** Text to `normalizer`, `pre_tokenizer`, `model` and `post_processor`, in this order. */
export interface TokenizerJson {
	readonly added_tokens: readonly AddedToken[];
	readonly normalizer: Component | null;
	readonly pre_tokenizer: Component | null;
	readonly model: Component;
	readonly post_processor: Component | null;
	readonly decoder: Component | null;
}

/** Content of a special token by role, as `special_tokens_map.json` names them. */
export interface SpecialTokens {
	readonly bos_token?: AddedTokenForm;
	readonly eos_token?: AddedTokenForm;
	readonly unk_token?: AddedTokenForm;
	readonly pad_token?: AddedTokenForm;
}

/** A token before its id is known. */
export type AddedTokenForm = Omit<AddedToken, 'id'>;

/** A special token of this content, with the defaults of the format. */
export function specialToken(content: string): AddedTokenForm {
	return { content, special: true, normalized: false, lstrip: false, rstrip: false, single_word: false };
}

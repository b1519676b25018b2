/** @file Reads `spiece.model`, the protobuf file of a SentencePiece model (field numbers: src/sentencepiece_model.proto of google/sentencepiece). */
import { DiffusionPipeError } from '../core/errors.ts';
import { type InField, readBytes, readFields, readFloat, readInt, readMessage, readString, wholeMessage } from '../graph/onnx/wire.ts';

/** What a piece is for; `byte` pieces stand for single bytes of what is not in the vocabulary. */
export type PieceKind = 'normal' | 'unknown' | 'control' | 'userDefined' | 'unused' | 'byte';

/** One entry of the vocabulary; its position is its id. */
export interface Piece {
	readonly text: string;
	/** Logarithm of its probability. */
	readonly score: number;
	readonly kind: PieceKind;
}

export interface SentencePieceModel {
	readonly modelType: 'unigram' | 'bpe' | 'word' | 'char';
	readonly pieces: readonly Piece[];
	readonly unknownId: number;
	/** Unicode normalisation compiled by SentencePiece; empty for none. */
	readonly charsMap: Uint8Array;
	/** A space is put before the text. */
	readonly addDummyPrefix: boolean;
	/** Spaces at both ends go, and runs of spaces become one. */
	readonly removeExtraWhitespaces: boolean;
}

const kinds: readonly PieceKind[] = ['normal', 'unknown', 'control', 'userDefined', 'unused', 'byte'];
const modelTypes = ['unigram', 'bpe', 'word', 'char'] as const;

/** The model in `bytes`; `place` names the file in errors. Throws an input error when the bytes are damaged or hold no vocabulary. */
export function readSentencePiece(bytes: Uint8Array, place: string): SentencePieceModel {
	const pieces: Piece[] = [];
	let modelType: SentencePieceModel['modelType'] = 'unigram';
	let unknownId = 0;
	let charsMap: Uint8Array = new Uint8Array(0);
	let addDummyPrefix = true;
	let removeExtraWhitespaces = true;
	/** Entry of an enumeration that counts from 1. */
	const entry = <T>(names: readonly T[], field: InField, what: string): T => {
		const number = readInt(field);
		const name = names[number - 1];
		if (name !== undefined) return name;
		throw new DiffusionPipeError('input', `${what} ${number} is not known`, { place, expected: `1 to ${names.length}` });
	};
	const piece = (field: InField): void => {
		let text = '';
		let score = 0;
		let kind: PieceKind = 'normal';
		readFields(readMessage(field), {
			1: (f) => (text = readString(f)),
			2: (f) => (score = readFloat(f)),
			3: (f) => (kind = entry(kinds, f, 'piece type')),
		});
		if (text === '') throw new DiffusionPipeError('input', `piece ${pieces.length} is empty`, { place });
		pieces.push({ text, score, kind });
	};
	readFields(wholeMessage(bytes, place), {
		1: piece,
		2: (f) =>
			readFields(readMessage(f), {
				3: (t) => (modelType = entry(modelTypes, t, 'model type')),
				40: (t) => (unknownId = readInt(t)),
			}),
		3: (f) =>
			readFields(readMessage(f), {
				2: (n) => (charsMap = readBytes(n)),
				3: (n) => (addDummyPrefix = readInt(n) !== 0),
				4: (n) => (removeExtraWhitespaces = readInt(n) !== 0),
			}),
	});
	if (pieces[unknownId]?.kind !== 'unknown') {
		throw new DiffusionPipeError('input', 'this is not a SentencePiece model', {
			place,
			expected: `a vocabulary whose entry ${unknownId} is the unknown piece`,
			found: `${pieces.length} pieces`,
		});
	}
	return { modelType, pieces, unknownId, charsMap, addDummyPrefix, removeExtraWhitespaces };
}

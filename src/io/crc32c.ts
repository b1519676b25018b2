/** @file CRC-32C (Castagnoli), the checksum of TensorBoard's record files; node:zlib has only the other CRC-32. */

const table = Uint32Array.from({ length: 256 }, (_, n) => {
	let c = n;
	// 0x82f63b78 is the Castagnoli polynomial with its bits reversed (RFC 3720, appendix B.4).
	for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
	return c >>> 0;
});

/** CRC-32C of `bytes`, as an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array): number {
	let c = 0xffffffff;
	for (const byte of bytes) c = table[(c ^ byte) & 255]! ^ (c >>> 8);
	return (c ^ 0xffffffff) >>> 0;
}

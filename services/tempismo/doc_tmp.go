package tempismo
